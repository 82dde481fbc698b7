-- Where the log is. Returns: epoch, newest offset, the offset before the first event.

local meta = call('HMGET', META, 'epoch', 'latest')
local first = call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
local earliest = meta[2]
if first then earliest = text(tonumber(string.match(first[1], '^%d+')) - 1) end
return {meta[1] or '', meta[2] or '0', earliest or '0'}
