-- The channels that retention has to look at. ARGV: a process (empty: whoever is the keeper), milliseconds for which it
-- is the keeper, time, how many channels to leave out, how many to return, the rules.
-- Returns: nothing if another process is the keeper; else 1 if the channels are due by other rules, 0 if not; channels.

if ARGV[1] ~= '' and not call('SET', KEEPER, ARGV[1], 'NX', 'PX', ARGV[2]) then
  if call('GET', KEEPER) ~= ARGV[1] then return {} end
  call('PEXPIRE', KEEPER, ARGV[2])
end
if call('HGET', META, 'rules') ~= ARGV[6] then return {1} end
return {0, unpack(call('ZRANGEBYSCORE', DUE, '-inf', ARGV[3], 'LIMIT', ARGV[4], ARGV[5]))}
