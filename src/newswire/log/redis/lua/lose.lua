-- What another log lost, for its copy. ARGV: number of channels, each and the newest offset that it lost; then shapes of
-- forgotten channels, each and that.

local count = tonumber(ARGV[1])
for a = 2, 2 * count, 2 do
  call('ZADD', LOST, 'GT', ARGV[a + 1], ARGV[a])
  if call('EXISTS', string.sub(META, 1, -5) .. 'c:' .. ARGV[a]) == 0 then call('ZADD', EMPTY, 'GT', ARGV[a + 1], ARGV[a]) end
end
for a = 2 * count + 2, #ARGV, 2 do
  if (tonumber(call('HGET', SHAPES, ARGV[a])) or 0) < tonumber(ARGV[a + 1]) then
    call('HSET', SHAPES, ARGV[a], ARGV[a + 1])
    call('HINCRBY', META, 'forgets', 1)
  end
end
return 1
