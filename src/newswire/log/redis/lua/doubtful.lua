-- What page.lua and scan.lua have in common: the channels that may be among the forgotten, and the offset after which
-- they are not.

local function doubtful(names)
  local out = {}
  if call('HEXISTS', META, 'forgets') == 1 then
    for _, channel in ipairs(names) do
      if not call('ZSCORE', LOST, channel) then
        local born = call('HGET', BORN, channel)
        if born or call('HEXISTS', BYTES, channel) == 0 then
          out[#out + 1] = channel
          out[#out + 1] = born or ''
        end
      end
    end
  end
  return out
end
