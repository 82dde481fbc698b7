-- Store batches. KEYS: the writer's, then others. ARGV: epoch, number of the writer's call, time, milliseconds for which
-- calls and tokens are known, number of batches. An event that goes to the same channel as the one before, with the same type, is in the same run; a
-- run is its number of events, key of the channel, type, and the data of each. Where the number of batches is 0, all is
-- stored, and runs follow. Else for each batch: the key of its condition's channel (0: none) and that offset, the key of
-- its token (0: none), number of events, how many arguments its runs have, and these.
-- Returns: status, epoch, time, newest offset before, and the outcome of each batch, unless their number is 0: an offset;
-- below 0, the offset that its token was given before; -2^53: its token is of a batch of another length; 0: its condition
-- did not hold. Status 0: done; 1: the log has another epoch; 2: the log and what is known of it don't fit together; 3:
-- this call comes late, after the writer's next. In these three cases nothing is stored.

local before = call('GET', KEYS[FIRST])
if before then
  local number = tonumber(string.match(before, '^%[(%d+)'))
  if number == tonumber(ARGV[2]) then
    local found = cjson.decode(before)
    table.remove(found, 1)
    return found
  end
  if number > tonumber(ARGV[2]) then return {3, ''} end
end
local meta = call('HMGET', META, 'epoch', 'latest', 'time', 'forgets')
local epoch, latest, last, forgets = meta[1], tonumber(meta[2]), tonumber(meta[3]), meta[4]
if epoch ~= ARGV[1] then return {1, epoch or ''} end
if latest > 0 and call('EXISTS', LOG) == 0 then return {2, epoch} end
local now = tonumber(ARGV[3])
if now < last then
  if last - now <= 60000000 then now = last else call('HSET', META, 'broke', text(latest)) end
end
local time, pcall = text(now), redis.pcall

local ends, new, sizes, order, names = {}, {}, {}, {}, {}
local function newest(k)
  local found = ends[k]
  if not found then
    found = tonumber(call('LINDEX', KEYS[k], -1)) or tonumber(call('ZSCORE', LOST, name(k))) or 0
    if found > latest then found = 0 end
    ends[k] = found
  end
  return found
end

-- The server evicted the list of a channel, or what is known of its size: what was there before is lost.
local function evicted(k, ids, size)
  call('LTRIM', KEYS[k], -#ids, -1)
  call('HSET', BYTES, names[k], size)
  if tonumber(ids[1]) > 1 then call('ZADD', LOST, 'GT', text(tonumber(ids[1]) - 1), names[k]) end
end

local first = latest
local out = {0, epoch, time, text(latest)}

-- Store the run at an argument. Returns where the next one is, and what to return at once if it can't be stored.
local function store(at)
  local count, k, kind = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
  local channel, ids, size = names[k], new[k], sizes[k]
  if not ids then
    channel, ids, size = name(k), {}, 0
    names[k], new[k] = channel, ids
    order[#order + 1] = k
  end
  local length = #ids
  for i = 1, count do
    local data, id = ARGV[at + 2 + i], text(latest + i)
    local added = pcall('XADD', LOG, id, 'c', channel, 'e', kind, 'd', data, 't', time)
    if type(added) == 'table' then
      if latest + i == first + 1 and string.find(added.err, 'equal or smaller') then return 0, {2, epoch} end
      return 0, added
    end
    ids[length + i] = id
    size = size + #data + 1
  end
  latest = latest + count
  sizes[k], ends[k] = size, latest
  return at + 3 + count
end

local at, failed, server_time, tokens = 6, nil, nil, 0
if ARGV[5] == '0' then
  while at <= #ARGV do
    at, failed = store(at)
    if failed then return failed end
  end
end
for b = 1, tonumber(ARGV[5]) do
  local condition, token, count = tonumber(ARGV[at]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local known = token > 0 and call('GET', KEYS[token])
  if token > 0 then server_time = server_time or clock() end
  if known then
    local since = call('ZSCORE', own('tokens'), name(token))
    if since and tonumber(since) < server_time - tonumber(ARGV[4]) then known = false end
  end
  local from = at + 5
  at = from + tonumber(ARGV[at + 4])
  if known then
    local stored, events = string.match(known, '^(%d+) (%d+)$')
    out[b + 4] = tonumber(events) == count and -tonumber(stored) or -9007199254740992
  elseif condition > 0 and newest(condition) ~= tonumber(ARGV[from - 4]) then
    out[b + 4] = 0
  else
    out[b + 4] = latest + 1
    while from < at do
      from, failed = store(from)
      if failed then return failed end
    end
    if token > 0 then
      call('SET', KEYS[token], text(latest - count + 1) .. ' ' .. count)
      call('ZADD', own('tokens'), text(server_time), name(token))
      tokens = tokens + 1
    end
  end
end

local due = {}
for _, k in ipairs(order) do
  local ids, channel, length = new[k], names[k], 0
  for i = 1, #ids, 4000 do length = call('RPUSH', KEYS[k], unpack(ids, i, math.min(i + 3999, #ids))) end
  local size, alone = call('HINCRBY', BYTES, channel, sizes[k]), length == #ids
  if alone then
    call('ZREM', EMPTY, channel)
    if forgets then call('HSET', BORN, channel, text(tonumber(ids[1]) - 1)) end
  end
  if alone ~= (size == sizes[k]) then evicted(k, ids, sizes[k]) end
  due[#due + 1] = '-inf'
  due[#due + 1] = channel
end
for i = 1, #due, 4000 do call('ZADD', DUE, unpack(due, i, math.min(i + 3999, #due))) end
if #order > 0 then call('HSET', META, 'latest', text(latest), 'time', time) end
local answer = {ARGV[2], '0', '"' .. epoch .. '"', '"' .. time .. '"', '"' .. out[4] .. '"'}
for b = 5, #out do answer[b + 1] = text(out[b]) end  -- cjson would write 14 digits
call('SET', KEYS[FIRST], '[' .. table.concat(answer, ',') .. ']')
-- Each new one makes up for two old ones: as many are kept as come in their time.
if tokens > 0 then forget_tokens(server_time - tonumber(ARGV[4]), 2 * tokens) end
if not before then
  server_time = server_time or clock()
  call('ZADD', own('writers'), text(server_time), name(FIRST) .. ' ' .. ARGV[2])
  forget_calls(server_time, server_time - tonumber(ARGV[4]), 4)
end
return out
