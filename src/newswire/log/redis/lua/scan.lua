-- The next events whose channel matches. ARGV: after, limit, bytes of a page, events to look at, number of patterns
-- (`*`: all events; what was lost is not looked for), those, names.
-- Returns: epoch, `forgets`, newest offset, through, lost, doubtful channels, offset and row of each.

local meta = call('HMGET', META, 'epoch', 'latest', 'forgets')
local after, limit, most, left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local latest = tonumber(meta[2]) or 0
local patterns, named, wanted, all = {}, {}, {}, ARGV[5] == '*'
for i = 6, 5 + (tonumber(ARGV[5]) or 0) do patterns[#patterns + 1] = ARGV[i] end
for i = 6 + #patterns, #ARGV do
  wanted[ARGV[i]] = true
  named[#named + 1] = ARGV[i]
end
local function matches(channel)
  local found = wanted[channel]
  if found == nil then
    found = false
    for _, pattern in ipairs(patterns) do
      if string.find(channel, pattern) and (string.sub(channel, 1, 1) ~= '$' or string.sub(pattern, 1, 3) == '^%$') then
        found = true
        break
      end
    end
    wanted[channel] = found
  end
  return found
end
local out, at, size, over = {meta[1] or '', meta[3] or '0', text(latest), 0, 0, {}}, after, 0, false
local count = 8
while left > 0 and not over and at < latest do
  local part = call('XRANGE', LOG, '(' .. text(at) .. '-0', '+', 'COUNT', count)
  left = left - count
  local seen = 0
  for _, each in ipairs(part) do
    local fields = each[2]
    if not fields[8] then return foreign(each) end
    seen = seen + #fields[6]
    if all or matches(fields[2]) then
      if (#out - 6) / 2 >= limit or (size + #fields[6] > most and size > 0) then
        over = true
        break
      end
      size = size + #fields[6]
      out[#out + 1] = string.match(each[1], '^%d+')
      out[#out + 1] = fields
    end
    at = tonumber(string.match(each[1], '^%d+'))
  end
  if not over and #part < count then at = math.max(latest, at) end
  count = seen > 262144 and 4 or 256
end
local lost, from = 0, 0
while not all do
  local part = call('ZREVRANGEBYSCORE', LOST, '+inf', '(' .. text(after), 'WITHSCORES', 'LIMIT', from, 500)
  for i = 1, #part, 2 do
    if matches(part[i]) then lost = tonumber(part[i + 1]); break end
  end
  if lost > 0 or #part < 1000 then break end
  from = from + 500
end
out[4] = text(math.max(at, after))
out[5] = text(lost)
out[6] = doubtful(named)
return out
