-- Remove the beginning of channels. KEYS: their lists. ARGV: events to remove at most; for each the offset up to which.
-- Returns: epoch, how many were removed, 1 if there are more.

local left, removed, more = tonumber(ARGV[1]), 0, 0
for k = FIRST, #KEYS do
  local cut, key = tonumber(ARGV[k - FIRST + 2]), KEYS[k]
  local whole = (tonumber(call('LINDEX', key, -1)) or 0) <= cut
  while left > 0 do
    local gone, size = {}, 0
    for _, offset in ipairs(call('LRANGE', key, 0, math.min(left, 500) - 1)) do
      if tonumber(offset) > cut then break end
      gone[#gone + 1] = offset
      if not whole then
        local fields = row(offset)
        if fields then size = size + #fields[6] end
      end
    end
    if #gone == 0 then break end
    delete(gone)
    call('LTRIM', key, #gone, -1)
    if not whole then
      call('HINCRBY', BYTES, name(k), -size - #gone)
      call('ZADD', LOST, 'GT', gone[#gone], name(k))
    end
    left = left - #gone
    removed = removed + #gone
  end
  if call('EXISTS', key) == 0 then
    forget(k)
    call('ZREM', LOST, name(k))
    call('ZREM', EMPTY, name(k))
  elseif left <= 0 and tonumber(call('LINDEX', key, 0)) <= cut then
    more = 1
    break
  end
end
return {call('HGET', META, 'epoch') or '', removed, more}
