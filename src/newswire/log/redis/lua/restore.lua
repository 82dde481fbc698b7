-- Store events of another log at their offsets. KEYS: lists of channels. ARGV: the other log's epoch, its lives, the
-- offset up to which this log is then complete, the one up to which it has to be before, number of events; for each:
-- key of its channel, offset, type, data, time.
-- Returns: 1, the newest offset; or 0, the newest offset: it ends too early, or the log has events of its own.

local meta = call('HMGET', META, 'epoch', 'latest', 'time', 'lives')
local latest, last = tonumber(meta[2]) or 0, tonumber(meta[3]) or 0
if meta[1] ~= ARGV[1] then
  local known = latest == 0
  for life in string.gmatch(ARGV[2], '([^:,]+):') do
    known = known or string.find(',' .. (meta[4] or ''), ',' .. life .. ':', 1, true)
  end
  if not known then return {0, text(latest)} end
end
if latest < tonumber(ARGV[4]) then return {0, text(latest)} end
call('HSET', META, 'epoch', ARGV[1], 'lives', ARGV[2])
for a = 6, 5 + 5 * tonumber(ARGV[5]), 5 do
  local k, id, data, time = tonumber(ARGV[a]), ARGV[a + 1], ARGV[a + 3], ARGV[a + 4]
  local offset, channel = tonumber(id), name(k)
  if offset > latest then
    if tonumber(time) < last then call('HSET', META, 'broke', text(latest)) end
    last, latest = tonumber(time), offset
    call('XADD', LOG, id, 'c', channel, 'e', ARGV[a + 2], 'd', data, 't', time)
    if call('RPUSH', KEYS[k], id) == 1 then
      call('ZREM', EMPTY, channel)
      call('HSET', BORN, channel, text(offset - 1))
    end
    call('HINCRBY', BYTES, channel, #data + 1)
    call('ZADD', DUE, '-inf', channel)
  end
end
latest = math.max(latest, tonumber(ARGV[3]))
if latest > 0 and call('EXISTS', LOG) == 0 then
  call('XADD', LOG, text(latest), 'e', '')  -- an empty stream knows its newest id
  call('XDEL', LOG, text(latest))
end
call('HSET', META, 'latest', text(latest), 'time', text(last))
return {1, text(latest)}
