-- What drop.lua and trim.lua have in common.

local function forget(k)
  call('DEL', KEYS[k])
  call('HDEL', BYTES, name(k))
  call('HDEL', BORN, name(k))
  call('ZREM', DUE, name(k))
end
local function delete(offsets)
  for i = 1, #offsets, 4000 do call('XDEL', LOG, unpack(offsets, i, math.min(i + 3999, #offsets))) end
end
