-- What append.lua and sweep.lua have in common: how long calls and tokens are known, by the server's clock. None of them
-- has an expiry of the server's: where its memory is full it would evict them.

local function own(key) return string.sub(META, 1, -5) .. key end
local function clock()  -- in milliseconds; TIME would be one more right to grant
  call('SET', own('now'), '', 'PX', 60000)
  return call('PEXPIRETIME', own('now')) - 60000
end
local function older(key, time, most) return call('ZRANGE', key, '-inf', '(' .. text(time), 'BYSCORE', 'LIMIT', 0, most) end

-- Forget tokens from before a time. Returns how many.
local function forget_tokens(time, most)
  local old = older(own('tokens'), time, most)
  for _, token in ipairs(old) do call('DEL', own('t:' .. token)) end
  if #old > 0 then call('ZREM', own('tokens'), unpack(old)) end
  return #old
end

-- Forget the last calls of writers that have made no other since they were looked at, before a time. Returns how many
-- writers were looked at.
local function forget_calls(now, time, most)
  local old = older(own('writers'), time, most)
  for _, each in ipairs(old) do
    local id, number = string.match(each, '^(%S+) (%d+)$')
    local last = string.match(call('GET', own('w:' .. id)) or '', '^%[(%d+)')
    call('ZREM', own('writers'), each)
    if last == number then
      call('DEL', own('w:' .. id))
    elseif last then
      call('ZADD', own('writers'), text(now), id .. ' ' .. last)
    end
  end
  return #old
end
