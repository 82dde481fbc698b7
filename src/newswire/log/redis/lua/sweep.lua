-- Forget old calls and tokens. ARGV: milliseconds for which they are known, how many to look at at most.
-- Returns: 1 if there may be more.

local now, most = clock(), tonumber(ARGV[2])
local time = now - tonumber(ARGV[1])
local tokens, calls = forget_tokens(time, most), forget_calls(now, time, most)
return (tokens == most or calls == most) and 1 or 0
