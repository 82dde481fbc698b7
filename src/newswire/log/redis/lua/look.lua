-- Let all channels be due, for the rules are others than those by which they were. ARGV: where to go on (0 at first), how
-- many channels, the rules.
-- Returns: where to go on; 0: all are due now.

local part = call('HSCAN', BYTES, ARGV[1], 'COUNT', ARGV[2])
local due = {}
for i = 1, #part[2], 2 do
  due[#due + 1] = '-inf'
  due[#due + 1] = part[2][i]
end
for i = 1, #due, 4000 do call('ZADD', DUE, unpack(due, i, math.min(i + 3999, #due))) end
if part[1] == '0' and call('HEXISTS', META, 'epoch') == 1 then call('HSET', META, 'rules', ARGV[3]) end
return tonumber(part[1])
