-- What every script begins with.

local META, LOG, BYTES, LOST, DUE, KEEPER, EMPTY, SHAPES, BORN = unpack(KEYS, 1, 9)
local FIRST = 10  -- of the keys that belong to this call
local call = redis.call
local function name(k) return string.sub(KEYS[k], #META - 1) end
local function text(n) return string.format('%d', n) end
-- The row of an offset: channel, type, data, time. Nothing if it is gone.
local function row(offset)
  local found = call('XRANGE', LOG, offset, offset)[1]
  return found and found[2]
end
local function foreign(entry)
  return redis.error_reply('WRONGTYPE entry ' .. entry[1] .. ' of ' .. LOG .. ' is no event: XDEL it')
end
