"""What the server does in one step: Lua scripts, each atomic, and the keys that they use. `calls` runs them.

All keys of a log have one prefix, `{namespace}:`, so that a cluster has them in one place:

* `meta`, a hash: `epoch`, `latest` (the newest offset), `time` (of the newest event), `run` (the server process that it
  was written by), `lives` (as text), `broke` (the newest offset
  before the clock was set back), `forgets` (how often channels were forgotten).
* `log`, a stream: all events. Their ids are their offsets, so that a server that is behind refuses the next one.
* `c:NAME`, a list: the offsets of a channel's events.
* `bytes`, a hash: how large the data of each channel's events is together, and one more for each event.
* `lost`, a sorted set: the newest offset that a channel lost.
* `empty`, a sorted set: the same, of the channels that have nothing left.
* `shapes` and `born`, hashes: what is known of forgotten channels (`newswire.log.forgotten`), and the newest offset
  before the first event of channels that came after the first was forgotten.
* `due`, a sorted set: when retention has to look at a channel, in microseconds; -inf: at once.
* `w:ID`: the last call of a writing process, and its outcome, for the case that the answer was lost.
* `keeper`: which process enforces retention.
* `t:TOKEN`: the offset that the batch with this token was given.

Times are microseconds since the Unix epoch. Lua counts in doubles: offsets are exact up to 2^53.
"""

from __future__ import annotations

import hashlib
from typing import Final

KEYS: Final = ("meta", "log", "bytes", "lost", "due", "keeper", "empty", "shapes", "born")
WRITER: Final = "w:"
CHANNEL: Final = "c:"
TOKEN: Final = "t:"

_HEAD: Final = """
local META, LOG, BYTES, LOST, DUE, KEEPER, EMPTY, SHAPES, BORN = unpack(KEYS, 1, 9)
local FIRST = 10  -- of the keys that belong to this call
local call = redis.call
local function name(k) return string.sub(KEYS[k], #META - 1) end
local function text(n) return string.format('%.0f', n) end
-- The row of an offset: channel, type, data, time. Nothing if it is gone.
local function row(offset)
  local found = call('XRANGE', LOG, offset, offset)[1]
  return found and found[2]
end
"""

# Store batches. KEYS: the writer's, then others. ARGV: epoch, number of the writer's call, time, token's milliseconds,
# number of batches; for each: the key of its condition's channel (0: none) and that offset, the key of its token (0:
# none), number of events; for each of these: key of its channel, type, data.
# Returns: status, epoch, time, newest offset before, and the outcome of each batch: an offset, or 0: its condition did
# not hold. Status 0: done; 1: the log has another epoch; 2: the log and what is known of it don't fit together; 3:
# this call comes late, after the writer's next. In these three cases nothing is stored.
APPEND: Final = (
    _HEAD
    + """
local before = call('GET', KEYS[FIRST])
if before then
  local found = cjson.decode(before)
  local number = table.remove(found, 1)
  if number == tonumber(ARGV[2]) then return found end
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
local time = text(now)

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

local out, a = {0, epoch, time, text(latest)}, 6
for b = 1, tonumber(ARGV[5]) do
  local condition, token, count = tonumber(ARGV[a]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  local known = token > 0 and call('GET', KEYS[token])
  if known then
    out[b + 4] = tonumber(known)
    a = a + 4 + 3 * count
  elseif condition > 0 and newest(condition) ~= tonumber(ARGV[a + 1]) then
    out[b + 4] = 0
    a = a + 4 + 3 * count
  else
    out[b + 4] = latest + 1
    a = a + 4
    for _ = 1, count do
      local k, data = tonumber(ARGV[a]), ARGV[a + 2]
      latest = latest + 1
      local id = text(latest)
      local channel = names[k]
      if not channel then
        channel = name(k)
        names[k] = channel
      end
      local added = redis.pcall('XADD', LOG, id, 'c', channel, 'e', ARGV[a + 1], 'd', data, 't', time)
      if type(added) == 'table' then
        if string.find(added.err, 'equal or smaller') and #order == 0 then return {2, epoch} end
        return added
      end
      local ids = new[k]
      if ids then
        ids[#ids + 1] = id
        sizes[k] = sizes[k] + #data + 1
      else
        new[k] = {id}
        sizes[k] = #data + 1
        order[#order + 1] = k
      end
      ends[k] = latest
      a = a + 3
    end
    if token > 0 then call('SET', KEYS[token], text(latest - count + 1), 'PX', ARGV[4]) end
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
call('SET', KEYS[FIRST], cjson.encode({tonumber(ARGV[2]), unpack(out)}), 'PX', ARGV[4])
return out
"""
)

# A process has made a connection. ARGV: the server's run id, an epoch to begin a life with, the epoch that the process
# knows (or nothing), the newest offset that it has seen in it, the lives that it knows.
# Returns: epoch, newest offset, lives.
ENTER: Final = (
    _HEAD
    + """
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
elseif run ~= ARGV[1] or (ARGV[3] == epoch and tonumber(ARGV[4]) > latest) then
  begin(latest)
end
return {epoch, text(latest), lives}
"""
)

# Where the log is. Returns: epoch, newest offset, the offset before the first event.
STATE: Final = (
    _HEAD
    + """
local meta = call('HMGET', META, 'epoch', 'latest')
local first = call('XRANGE', LOG, '-', '+', 'COUNT', 1)[1]
local earliest = meta[2]
if first then earliest = text(tonumber(string.match(first[1], '^%d+')) - 1) end
return {meta[1] or '', meta[2] or '0', earliest or '0'}
"""
)

# The channels that may be among the forgotten, and the offset after which they are not.
_DOUBTFUL: Final = """
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
"""

# The next events of some channels. KEYS: their lists. ARGV: after, limit, newest offset to look at (0: any), bytes of
# a page, mode; in mode `rows`, offsets that were found before.
# Returns: epoch, `forgets`, newest offset, through, lost, doubtful channels, and in mode `seek` offsets, else offset
# and row of each.
PAGE: Final = (
    _HEAD
    + _DOUBTFUL
    + """
local meta = call('HMGET', META, 'epoch', 'latest', 'forgets')
local after, limit, upto = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local latest = tonumber(meta[2]) or 0
if upto == 0 then upto = latest end
local found, lost = {}, 0

-- The place in a channel's list of the first offset after `at`, searched from its end.
local function place(key, length, at)
  local high, step = length, 1  -- `high` is after `at`, or the end
  local low = length - 1
  while low >= 0 and tonumber(call('LINDEX', key, low)) > at do
    high = low
    step = step * 4
    low = low - step
  end
  if low < 0 then low = -1 end
  while high - low > 1 do
    local middle = math.floor((high + low) / 2)
    if tonumber(call('LINDEX', key, middle)) > at then high = middle else low = middle end
  end
  return high
end

if ARGV[5] == 'rows' then
  for i = 6, #ARGV do found[#found + 1] = tonumber(ARGV[i]) end
elseif after < upto then
  local count = math.max(math.ceil(2 * limit / math.max(#KEYS - FIRST + 1, 1)), 16)
  local open, bound = {}, upto
  for k = FIRST, #KEYS do
    local length = call('LLEN', KEYS[k])
    if length == 0 and call('HDEL', BYTES, name(k)) == 1 then
      call('ZADD', LOST, 'GT', text(latest), name(k))  -- the server evicted it
    end
    if length > 0 and tonumber(call('LINDEX', KEYS[k], -1)) > after then
      open[#open + 1] = {k, place(KEYS[k], length, after), length}
    end
  end
  while #open > 0 do
    local more = {}
    for _, each in ipairs(open) do
      local part = call('LRANGE', KEYS[each[1]], each[2], each[2] + count - 1)
      for _, offset in ipairs(part) do
        offset = tonumber(offset)
        if offset > bound then break end
        found[#found + 1] = offset
      end
      if each[2] + count < each[3] then more[#more + 1] = {each[1], each[2] + count, each[3], tonumber(part[#part])} end
    end
    table.sort(found)
    if #found > limit then
      for i = #found, limit + 1, -1 do found[i] = nil end
    end
    if #found == limit then bound = found[limit] end
    open = {}
    for _, each in ipairs(more) do
      if each[4] < bound then open[#open + 1] = each end
    end
    count = count * 4
  end
end

local through = math.max(upto, after)
if #found >= limit then through = found[#found] end
local out = {meta[1] or '', meta[3] or '0', text(latest), 0, 0, {}}
if ARGV[5] == 'seek' then
  for i, offset in ipairs(found) do out[i + 6] = text(offset) end
else
  local size, most, rows, next_to = 0, tonumber(ARGV[4]), {}, 1
  local close = #found > 4 and found[#found] - found[1] < 2 * #found
  for i, offset in ipairs(found) do
    local fields = rows[offset]
    if not fields then  -- those that are close to each other come some at a time, unless they are large
      rows = {}
      local last = text(close and found[#found] or offset)
      for _, each in ipairs(call('XRANGE', LOG, text(offset), last, 'COUNT', next_to)) do
        rows[tonumber(string.match(each[1], '^%d+'))] = each[2]
        if next_to > 1 and #each[2][6] > 4096 then close = false end
      end
      next_to = close and 64 or 1
      fields = rows[offset]
    end
    if fields then
      size = size + #fields[6]
      if size > most and #out > 6 then
        through = found[i - 1]
        break
      end
      out[#out + 1] = text(offset)
      out[#out + 1] = fields
    elseif offset > lost then
      lost = offset
    end
  end
end
local names = {}
for k = FIRST, #KEYS do names[#names + 1] = name(k) end
for i = 1, #names, 4000 do
  for _, each in ipairs(call('ZMSCORE', LOST, unpack(names, i, math.min(i + 3999, #names)))) do
    if each and tonumber(each) > lost then lost = tonumber(each) end
  end
end
out[4] = text(through)
out[5] = text(lost)
if ARGV[5] ~= 'seek' then out[6] = doubtful(names) end
return out
"""
)

# The next events whose channel matches. ARGV: after, limit, bytes of a page, events to look at, number of patterns
# (`*`: all events; what was lost is not looked for), those, names.
# Returns: epoch, `forgets`, newest offset, through, lost, doubtful channels, offset and row of each.
SCAN: Final = (
    _HEAD
    + _DOUBTFUL
    + """
local meta = call('HMGET', META, 'epoch', 'latest', 'forgets')
local after, limit, most, left = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local latest = tonumber(meta[2]) or 0
local patterns, named, wanted, all = {}, {}, {}, ARGV[5] == '*'
for i = 6, 5 + (tonumber(ARGV[5]) or 0) do patterns[#patterns + 1] = ARGV[i] end
for i = 6 + #patterns, #ARGV do
  wanted[ARGV[i]] = true
  named[#named + 1] = ARGV[i]
end
local function matches(channel)
  local found = wanted[channel]
  if found == nil then
    found = false
    for _, pattern in ipairs(patterns) do
      if string.find(channel, pattern) and (string.sub(channel, 1, 1) ~= '$' or string.sub(pattern, 1, 3) == '^%$') then
        found = true
        break
      end
    end
    wanted[channel] = found
  end
  return found
end
local out, at, size, over = {meta[1] or '', meta[3] or '0', text(latest), 0, 0, {}}, after, 0, false
local count = 8
while left > 0 and not over and at < latest do
  local part = call('XRANGE', LOG, '(' .. text(at) .. '-0', '+', 'COUNT', count)
  left = left - count
  local seen = 0
  for _, each in ipairs(part) do
    local fields = each[2]
    seen = seen + #fields[6]
    if all or matches(fields[2]) then
      if (#out - 6) / 2 >= limit or (size + #fields[6] > most and size > 0) then
        over = true
        break
      end
      size = size + #fields[6]
      out[#out + 1] = string.match(each[1], '^%d+')
      out[#out + 1] = fields
    end
    at = tonumber(string.match(each[1], '^%d+'))
  end
  if not over and #part < count then at = math.max(latest, at) end
  count = seen > 262144 and 4 or 256
end
local lost, from = 0, 0
while not all do
  local part = call('ZREVRANGEBYSCORE', LOST, '+inf', '(' .. text(after), 'WITHSCORES', 'LIMIT', from, 500)
  for i = 1, #part, 2 do
    if matches(part[i]) then lost = tonumber(part[i + 1]); break end
  end
  if lost > 0 or #part < 1000 then break end
  from = from + 500
end
out[4] = text(math.max(at, after))
out[5] = text(lost)
out[6] = doubtful(named)
return out
"""
)

# The newest event of each channel. KEYS: their lists. Returns: epoch, then offset and row of each, or two empty texts.
NEWEST: Final = (
    _HEAD
    + """
local out = {call('HGET', META, 'epoch') or ''}
for k = FIRST, #KEYS do
  local offset = call('LINDEX', KEYS[k], -1)
  local fields = offset and row(offset)
  out[#out + 1] = fields and offset or ''
  out[#out + 1] = fields or ''
end
return out
"""
)

_REMOVE: Final = """
local function forget(k)
  call('DEL', KEYS[k])
  call('HDEL', BYTES, name(k))
  call('HDEL', BORN, name(k))
  call('ZREM', DUE, name(k))
end
local function delete(offsets)
  for i = 1, #offsets, 4000 do call('XDEL', LOG, unpack(offsets, i, math.min(i + 3999, #offsets))) end
end
"""

# Remove the beginning of channels. KEYS: their lists. ARGV: events to remove at most; for each the offset up to which.
# Returns: epoch, how many were removed, 1 if there are more.
DROP: Final = (
    _HEAD
    + _REMOVE
    + """
local left, removed, more = tonumber(ARGV[1]), 0, 0
for k = FIRST, #KEYS do
  local cut, key = tonumber(ARGV[k - FIRST + 2]), KEYS[k]
  local whole = (tonumber(call('LINDEX', key, -1)) or 0) <= cut
  while left > 0 do
    local gone, size = {}, 0
    for _, offset in ipairs(call('LRANGE', key, 0, math.min(left, 500) - 1)) do
      if tonumber(offset) > cut then break end
      gone[#gone + 1] = offset
      if not whole then
        local fields = row(offset)
        if fields then size = size + #fields[6] end
      end
    end
    if #gone == 0 then break end
    delete(gone)
    call('LTRIM', key, #gone, -1)
    if not whole then
      call('HINCRBY', BYTES, name(k), -size - #gone)
      call('ZADD', LOST, 'GT', gone[#gone], name(k))
    end
    left = left - #gone
    removed = removed + #gone
  end
  if call('EXISTS', key) == 0 then
    forget(k)
    call('ZREM', LOST, name(k))
    call('ZREM', EMPTY, name(k))
  elseif left <= 0 and tonumber(call('LINDEX', key, 0)) <= cut then
    more = 1
    break
  end
end
return {call('HGET', META, 'epoch') or '', removed, more}
"""
)

# The channels that retention has to look at. ARGV: a process (empty: whoever is the keeper), milliseconds for which it
# is the keeper, time, how many channels to leave out, how many to return.
# Returns: nothing if another process is the keeper; else the epoch, the newest offset, channels.
DUE: Final = (
    _HEAD
    + """
if ARGV[1] ~= '' and not call('SET', KEEPER, ARGV[1], 'NX', 'PX', ARGV[2]) then
  if call('GET', KEEPER) ~= ARGV[1] then return {} end
  call('PEXPIRE', KEEPER, ARGV[2])
end
local meta = call('HMGET', META, 'epoch', 'latest')
return {meta[1] or '', meta[2] or '0', unpack(call('ZRANGEBYSCORE', DUE, '-inf', ARGV[3], 'LIMIT', ARGV[4], ARGV[5]))}
"""
)

# Remove what rules don't keep. KEYS: lists of channels. ARGV: events to remove at most, newest offset to remove,
# whether to look at each event of channels that are not in the order of time; for each channel: how many events and
# bytes to keep, the time before which events go, the age at which they do (empty: no limit).
# Returns: epoch, how many were removed, 1 if there are more.
TRIM: Final = (
    _HEAD
    + _REMOVE
    + """
local left, upto, walk = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local broke = tonumber(call('HGET', META, 'broke')) or 0
local removed, more = 0, 0
for k = FIRST, #KEYS do
  local a, key, channel = 4 + 4 * (k - FIRST), KEYS[k], name(k)
  local most, most_bytes = tonumber(ARGV[a]) or math.huge, tonumber(ARGV[a + 1]) or math.huge
  local cutoff, age = tonumber(ARGV[a + 2]) or -math.huge, tonumber(ARGV[a + 3])
  local length = call('LLEN', key)
  local size = (tonumber(call('HGET', BYTES, channel)) or 0) - length
  local gone, at, first, spent, stop = {}, 0, nil, false, false
  local ordered = not age or (tonumber(call('LINDEX', key, 0)) or 0) > broke
  repeat
    local part = call('LRANGE', key, at, at + 199)
    for _, offset in ipairs(part) do
      if #gone >= left then
        spent, stop = true, true
        break
      end
      local fields = row(offset)
      local time = fields and tonumber(fields[8]) or 0
      if tonumber(offset) > upto then
        first, stop = math.min(first or time, time), true
        break
      elseif not fields or length - #gone > most or size > most_bytes or time < cutoff then
        gone[#gone + 1] = offset
        if fields then size = size - #fields[6] end
      else
        first = math.min(first or time, time)
        if ordered or not walk then
          stop = true
          break
        end
      end
    end
    at = at + #part
  until stop or #part < 200
  if #gone > 0 then
    delete(gone)
    -- Nearly always the beginning of the list; else those in between, one by one.
    local begin = 0
    for i, offset in ipairs(call('LRANGE', key, 0, #gone - 1)) do
      if offset ~= gone[i] then break end
      begin = i
    end
    for i = begin + 1, #gone do call('LREM', key, 1, gone[i]) end
    if begin > 0 then call('LTRIM', key, begin, -1) end
    call('HSET', BYTES, channel, text(size + length - #gone))
    call('ZADD', LOST, 'GT', gone[#gone], channel)
    left = left - #gone
    removed = removed + #gone
  end
  if length == #gone then
    forget(k)
    call('ZADD', EMPTY, call('ZSCORE', LOST, channel) or 0, channel)
  elseif spent then
    more = 1
  elseif length - #gone <= most and size <= most_bytes and (ordered or walk) then  -- else it is looked at again
    if age and first then
      call('ZADD', DUE, text(first + age), channel)
    else
      call('ZREM', DUE, channel)
    end
  end
  if left <= 0 then break end
end
return {call('HGET', META, 'epoch') or '', removed, more}
"""
)


# Forget channels that have nothing left. ARGV: `forgets` as it was when the shapes were read, number of channels, each
# and what it lost last, then each shape and what it lost.
# Returns: how many were forgotten.
FORGET: Final = (
    _HEAD
    + """
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
"""
)


class Script:
    """A script as the server knows it.

    Attributes:
        text: Lua.
        sha: by which it is called.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
