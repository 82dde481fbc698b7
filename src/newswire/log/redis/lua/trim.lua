-- Remove what rules don't keep. KEYS: lists of channels. ARGV: events to remove at most, newest offset to remove,
-- whether to look at each event of channels that are not in the order of time, whether to note when the channels are due
-- again; for each channel: how many events and bytes to keep, the time before which events go, the age at which they do
-- (empty: no limit).
-- Returns: epoch, how many were removed, 1 if there are more.

local left, upto, walk, note = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1', ARGV[4] == '1'
local broke = tonumber(call('HGET', META, 'broke')) or 0
local removed, more = 0, 0
for k = FIRST, #KEYS do
  local a, key, channel = 5 + 4 * (k - FIRST), KEYS[k], name(k)
  local most, most_bytes = tonumber(ARGV[a]) or math.huge, tonumber(ARGV[a + 1]) or math.huge
  local cutoff, age = tonumber(ARGV[a + 2]) or -math.huge, tonumber(ARGV[a + 3])
  local length = call('LLEN', key)
  local size = (tonumber(call('HGET', BYTES, channel)) or 0) - length
  local gone, at, first, spent, stop, unseen = {}, 0, nil, false, false, false
  local ordered = not age or (tonumber(call('LINDEX', key, 0)) or 0) > broke
  repeat
    local part = call('LRANGE', key, at, at + 199)
    for _, offset in ipairs(part) do
      if #gone >= left then
        spent, stop = true, true
        break
      end
      local fields = row(offset)
      local time = fields and tonumber(fields[8]) or 0
      if tonumber(offset) > upto then
        first, stop = math.min(first or time, time), true
        unseen = not ordered  -- what comes after it may be older
        break
      elseif not fields or length - #gone > most or size > most_bytes or time < cutoff then
        gone[#gone + 1] = offset
        if fields then size = size - #fields[6] end
      else
        first = math.min(first or time, time)
        if ordered or not walk then
          stop = true
          break
        end
      end
    end
    at = at + #part
  until stop or #part < 200
  if #gone > 0 then
    delete(gone)
    -- Nearly always the beginning of the list; else those in between, one by one.
    local begin = 0
    for i, offset in ipairs(call('LRANGE', key, 0, #gone - 1)) do
      if offset ~= gone[i] then break end
      begin = i
    end
    for i = begin + 1, #gone do call('LREM', key, 1, gone[i]) end
    if begin > 0 then call('LTRIM', key, begin, -1) end
    call('HSET', BYTES, channel, text(size + length - #gone))
    call('ZADD', LOST, 'GT', gone[#gone], channel)
    left = left - #gone
    removed = removed + #gone
  end
  if length == 0 and not note then
    -- it was dropped just now
  elseif length == #gone then
    forget(k)
    call('ZADD', EMPTY, call('ZSCORE', LOST, channel) or 0, channel)
  elseif spent then
    more = 1
  elseif note and length - #gone <= most and size <= most_bytes and (ordered or walk) and not unseen then  -- else again
    if age and first then
      call('ZADD', DUE, text(first + age), channel)
    else
      call('ZREM', DUE, channel)
    end
  end
  if left <= 0 then break end
end
return {call('HGET', META, 'epoch') or '', removed, more}
