-- The newest event of each channel. KEYS: their lists. Returns: epoch, then offset and row of each, or two empty texts.

local out = {call('HGET', META, 'epoch') or ''}
for k = FIRST, #KEYS do
  local offset = call('LINDEX', KEYS[k], -1)
  local fields = offset and row(offset)
  out[#out + 1] = fields and offset or ''
  out[#out + 1] = fields or ''
end
return out
