-- Forget channels that have nothing left. ARGV: `forgets` as it was when the shapes were read, number of channels, each
-- and what it lost last, then each shape and what it lost.
-- Returns: how many were forgotten.

if (call('HGET', META, 'forgets') or '0') ~= ARGV[1] then return 0 end
local last, forgotten = 2 + 2 * tonumber(ARGV[2]), 0
call('HINCRBY', META, 'forgets', 1)
for i = last + 1, #ARGV, 2 do call('HSET', SHAPES, ARGV[i], ARGV[i + 1]) end
for i = 3, last, 2 do
  if call('ZSCORE', EMPTY, ARGV[i]) == ARGV[i + 1] then
    call('ZREM', EMPTY, ARGV[i])
    call('ZREM', LOST, ARGV[i])
    forgotten = forgotten + 1
  end
end
return forgotten
