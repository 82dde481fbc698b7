-- The next events of some channels. KEYS: their lists. ARGV: after, limit, newest offset to look at (0: any), bytes of
-- a page, mode; in mode `rows`, offsets that were found before.
-- Returns: epoch, `forgets`, newest offset, through, lost, doubtful channels, and in mode `seek` offsets, else offset
-- and row of each.

local meta = call('HMGET', META, 'epoch', 'latest', 'forgets')
local after, limit, upto = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local latest = tonumber(meta[2]) or 0
if upto == 0 then upto = latest end
local found, lost = {}, 0

-- The place in a channel's list of the first offset after `at`, searched from its end.
local function place(key, length, at)
  local high, step = length, 1  -- `high` is after `at`, or the end
  local low = length - 1
  while low >= 0 and tonumber(call('LINDEX', key, low)) > at do
    high = low
    step = step * 4
    low = low - step
  end
  if low < 0 then low = -1 end
  while high - low > 1 do
    local middle = math.floor((high + low) / 2)
    if tonumber(call('LINDEX', key, middle)) > at then high = middle else low = middle end
  end
  return high
end

if ARGV[5] == 'rows' then
  for i = 6, #ARGV do found[#found + 1] = tonumber(ARGV[i]) end
elseif after < upto then
  local count = math.max(math.ceil(2 * limit / math.max(#KEYS - FIRST + 1, 1)), 16)
  local open, bound = {}, upto
  for k = FIRST, #KEYS do
    local length = call('LLEN', KEYS[k])
    if length == 0 and call('HEXISTS', BYTES, name(k)) == 1 then  -- the server evicted it
      call('ZADD', LOST, 'GT', text(latest), name(k))
      call('HDEL', BYTES, name(k))
    end
    if length > 0 and tonumber(call('LINDEX', KEYS[k], -1)) > after then
      open[#open + 1] = {k, place(KEYS[k], length, after), length}
    end
  end
  while #open > 0 do
    local more = {}
    for _, each in ipairs(open) do
      local part = call('LRANGE', KEYS[each[1]], each[2], each[2] + count - 1)
      for _, offset in ipairs(part) do
        offset = tonumber(offset)
        if offset > bound then break end
        found[#found + 1] = offset
      end
      if each[2] + count < each[3] then more[#more + 1] = {each[1], each[2] + count, each[3], tonumber(part[#part])} end
    end
    table.sort(found)
    if #found > limit then
      for i = #found, limit + 1, -1 do found[i] = nil end
    end
    if #found == limit then bound = found[limit] end
    open = {}
    for _, each in ipairs(more) do
      if each[4] < bound then open[#open + 1] = each end
    end
    count = count * 4
  end
end

local through = math.max(upto, after)
if #found >= limit then through = found[#found] end
local out = {meta[1] or '', meta[3] or '0', text(latest), 0, 0, {}}
if ARGV[5] == 'seek' then
  for i, offset in ipairs(found) do out[i + 6] = text(offset) end
else
  local size, most, rows, next_to = 0, tonumber(ARGV[4]), {}, 1
  local close = #found > 4 and found[#found] - found[1] < 2 * #found
  for i, offset in ipairs(found) do
    local fields = rows[offset]
    if not fields then  -- those that are close to each other come some at a time, unless they are large
      rows = {}
      local last = text(close and found[#found] or offset)
      for _, each in ipairs(call('XRANGE', LOG, text(offset), last, 'COUNT', next_to)) do
        if not each[2][8] then return foreign(each) end
        rows[tonumber(string.match(each[1], '^%d+'))] = each[2]
        if next_to > 1 and #each[2][6] > 4096 then close = false end
      end
      next_to = close and 64 or 1
      fields = rows[offset]
    end
    if fields then
      size = size + #fields[6]
      if size > most and #out > 6 then
        through = found[i - 1]
        break
      end
      out[#out + 1] = text(offset)
      out[#out + 1] = fields
    elseif offset > lost then
      lost = offset
    end
  end
end
local names = {}
for k = FIRST, #KEYS do names[#names + 1] = name(k) end
for i = 1, #names, 4000 do
  for _, each in ipairs(call('ZMSCORE', LOST, unpack(names, i, math.min(i + 3999, #names)))) do
    if each and tonumber(each) > lost then lost = tonumber(each) end
  end
end
out[4] = text(through)
out[5] = text(lost)
if ARGV[5] ~= 'seek' then out[6] = doubtful(names) end
return out
