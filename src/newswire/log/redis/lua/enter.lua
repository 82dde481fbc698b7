-- A process has made a connection. ARGV: the server's run id, an epoch to begin a life with, the epoch that the process
-- knows (or nothing), the newest offset that it has seen in it, the lives that it knows, whether a log may be made (0
-- or 1).
-- Returns: epoch, newest offset, lives; an empty epoch if there is no log and none was made. Where nothing can be written
-- also why: then what is there is read in the life that it had, and before anything is stored this is called again.

local meta = call('HMGET', META, 'epoch', 'latest', 'run', 'lives')
local epoch, latest, run, lives = meta[1], tonumber(meta[2]) or 0, meta[3], meta[4]
local there, top = call('EXISTS', LOG) == 1, 0
if there then
  local info = call('XINFO', 'STREAM', LOG)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then top = tonumber(string.match(info[i + 1], '^%d+')) end
  end
end
local function begin(after)
  epoch = ARGV[2]
  if lives and ARGV[3] ~= '' and not string.find(',' .. lives, ',' .. ARGV[3] .. ':', 1, true) then
    for known, from in string.gmatch(ARGV[5], '([^:,]+):(%d+)') do  -- they began after what was put back now
      if not string.find(',' .. lives, ',' .. known .. ':', 1, true) then
        lives = lives .. ',' .. known .. ':' .. text(math.min(tonumber(from), after))
      end
    end
  end
  lives = lives and lives .. ',' .. epoch .. ':' .. text(after) or epoch .. ':0'
  while #lives > 4000 do lives = string.gsub(lives, '^[^,]*,', '') end
  call('HSET', META, 'epoch', epoch, 'latest', text(latest), 'run', ARGV[1], 'lives', lives)
  call('HSETNX', META, 'time', '0')
end
if not epoch then
  if not there and ARGV[6] == '0' then return {'', '0', ''} end
  lives = false
  latest = top
  begin(0)
elseif latest > 0 and not there then
  for _, channel in ipairs(call('HKEYS', BYTES)) do
    local key = string.sub(META, 1, -5) .. 'c:' .. channel
    local newest = call('LINDEX', key, -1)
    if newest then call('ZADD', LOST, 'GT', newest, channel) end
    call('DEL', key)
  end
  call('DEL', BYTES, DUE)
  call('XADD', LOG, text(latest), 'e', '')  -- an empty stream knows its newest id
  call('XDEL', LOG, text(latest))
  begin(latest)
elseif top > latest then
  local after = latest
  latest = top
  begin(after)
elseif ARGV[3] == epoch and tonumber(ARGV[4]) > latest then
  begin(latest)
elseif run ~= ARGV[1] then
  if ARGV[3] == '' or string.find(',' .. lives, ',' .. ARGV[3] .. ':', 1, true) then
    local done = redis.pcall('HSET', META, 'run', run)
    if type(done) == 'table' then
      if string.find(done.err, '^OOM') then return done end
      return {epoch, text(latest), lives, done.err}
    end
  end
  begin(latest)
end
return {epoch, text(latest), lives}
