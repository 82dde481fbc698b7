-- The channels that retention has to look at. ARGV: a process (empty: whoever is the keeper), milliseconds for which it
-- is the keeper, time, how many channels to leave out, how many to return.
-- Returns: nothing if another process is the keeper; else the epoch, the newest offset, channels.

if ARGV[1] ~= '' and not call('SET', KEEPER, ARGV[1], 'NX', 'PX', ARGV[2]) then
  if call('GET', KEEPER) ~= ARGV[1] then return {} end
  call('PEXPIRE', KEEPER, ARGV[2])
end
local meta = call('HMGET', META, 'epoch', 'latest')
return {meta[1] or '', meta[2] or '0', unpack(call('ZRANGEBYSCORE', DUE, '-inf', ARGV[3], 'LIMIT', ARGV[4], ARGV[5]))}
