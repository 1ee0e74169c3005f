"""The few steps that Redis must take as one. Time is always the server's own, so no two clocks need to agree."""

from __future__ import annotations

# Upper bounds, in milliseconds, of the histogram of waits that is kept per queue; one more bucket holds the rest.
WAIT_BOUNDS_MS = (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000)
# The last waits themselves, newest first: so many characters of numbers and commas, which are a hundred or more.
RECENT_WAITS_CHARACTERS = 600

# The log of a campaign that the server does not know, and payloads that it names: the coordinator comes back sooner, or
# the campaign was dropped for good.
UNKNOWN_SECONDS = 24 * 3600

# So many patches does a claim follow. Their bytes end a chain earlier; the bound is for a broken one, because nobody
# else is served meanwhile.
MAX_PATCHES = 8

# A worker takes a task and learns the order and the newest version in the same round trip (late binding). The order is
# sent to who does not have it. A doorbell that was
# answered, superseded or cancelled in the meantime is told so, which makes a repeated doorbell harmless. A worker may
# claim again what it has, to learn of a newer version. The queue's counts are everybody's: that somebody has written
# nonsense there costs no claim.
# Where the version that the worker holds is at the beginning of a chain of patches that leads to the newest one, and
# they are fewer bytes than it, they are named as well.
#   KEYS out owners head pins queue-counts patches order
#   ARGV task attempt worker cached-digest model-prefix queue inline-limit order-digest
CLAIM = """
local out = redis.call('HGET', KEYS[1], ARGV[1])
if not out then return {'gone'} end
local attempt, issued = string.match(out, '^(%d+)|(%d+)|')
if attempt ~= ARGV[2] then return {'gone'} end
local owner = redis.call('HGET', KEYS[2], ARGV[1])
local again = false
if owner then
  local owned, _, delivered, name = string.match(owner, '^(%d+)|(%d+)|(%d)|(.*)$')
  if owned == ARGV[2] and (delivered == '1' or name ~= ARGV[3]) then return {'taken'} end
  again = owned == ARGV[2]
end
local head = redis.call('HMGET', KEYS[3], 'version', 'digest', 'num_bytes', 'num_chunks', 'place', 'updates', 'codec',
  'order')
if not head[1] or not head[8] then return {'gone'} end
local order = ''
if head[8] ~= ARGV[8] then
  order = redis.call('GET', KEYS[7])
  if not order then return {'gone'} end
end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[2], ARGV[1], string.format('%s|%.0f|0|%s', ARGV[2], now, ARGV[3]))
local wait = math.max(0, now - tonumber(issued))
local waited = string.format('%.0f', wait)
if not again then
  redis.pcall('HINCRBY', KEYS[5], ARGV[6] .. ':claimed', 1)
  local bucket = 0
  for _, bound in ipairs({BOUNDS}) do
    if wait <= bound then break end
    bucket = bucket + 1
  end
  redis.pcall('HINCRBY', KEYS[5], ARGV[6] .. ':waited_ms', waited)
  redis.pcall('HINCRBY', KEYS[5], ARGV[6] .. ':wait' .. bucket, 1)
  local before = redis.pcall('HGET', KEYS[5], ARGV[6] .. ':recent')
  local recent = waited .. ',' .. (type(before) == 'string' and before or '')
  if #recent > CHARACTERS then recent = string.match(string.sub(recent, 1, CHARACTERS), '^(.*,)') end
  redis.pcall('HSET', KEYS[5], ARGV[6] .. ':recent', recent)
end
local answer = {'ok', waited, head[1], head[2], head[3], head[4], head[5] or '', head[6] or '', head[7] or 'fp32',
  order}
if head[2] == ARGV[4] then return answer end
local size = tonumber(head[3]) or 0
if answer[7] == '' and head[4] == '1' and size <= tonumber(ARGV[7]) then
  answer[11] = redis.call('GET', ARGV[5] .. ':' .. head[1] .. ':0')
  return answer
end
redis.call('HSET', KEYS[4], ARGV[1], head[1])
local held, left, chain = ARGV[4], size, {}
while held ~= '' and held ~= head[2] and #chain < MAX_PATCHES do
  local row = redis.call('HGET', KEYS[6], held)
  if not row then break end
  local to, num_bytes = string.match(row, '^(%x+)|%d+|(%d+)|')
  if not to then break end
  left = left - tonumber(num_bytes)
  if left <= 0 then break end
  held, chain[#chain + 1] = to, row
end
if held == head[2] then
  answer[11] = ''
  for i, row in ipairs(chain) do answer[11 + i] = row end
end
return answer
""".replace("BOUNDS", ", ".join(map(str, WAIT_BOUNDS_MS)))
CLAIM = CLAIM.replace("CHARACTERS", str(RECENT_WAITS_CHARACTERS)).replace("MAX_PATCHES", str(MAX_PATCHES))

# A finished update enters the log; its task is marked as delivered in the same step, so that the worker's next beat
# (which no longer holds the task) is not read as a loss.
# A campaign that has ended takes nothing more.
#   KEYS log owners out pins epoch   ARGV task attempt worker header payload [blob chunk keys ...]
DELIVER = """
local epoch = redis.call('GET', KEYS[5])
if epoch == 'ended' then return 'over' end
for i = 6, #ARGV do
  if redis.call('EXISTS', ARGV[i]) == 0 then return redis.error_reply('MISSINGCHUNK ' .. ARGV[i]) end
end
for i = 6, #ARGV do
  if epoch then redis.call('PERSIST', ARGV[i]) else redis.call('EXPIRE', ARGV[i], UNKNOWN_SECONDS) end
end
local id
if ARGV[5] == '' then id = redis.call('XADD', KEYS[1], '*', 'u', ARGV[4])
else id = redis.call('XADD', KEYS[1], '*', 'u', ARGV[4], 'p', ARGV[5]) end
if not epoch then redis.call('EXPIRE', KEYS[1], UNKNOWN_SECONDS) end
if redis.call('HEXISTS', KEYS[3], ARGV[1]) == 1 then
  local owner = redis.call('HGET', KEYS[2], ARGV[1])
  local claimed = owner and string.match(owner, '^%d+|(%d+)|') or '0'
  local current = string.match(redis.call('HGET', KEYS[3], ARGV[1]), '^(%d+)|')
  if current == ARGV[2] then
    redis.call('HSET', KEYS[2], ARGV[1], ARGV[2] .. '|' .. claimed .. '|1|' .. ARGV[3])
  end
end
redis.call('HDEL', KEYS[4], ARGV[1])
return id
""".replace("UNKNOWN_SECONDS", str(UNKNOWN_SECONDS))

# A device whose bytes move is at work: its task's time begins anew. The answer is 0 where nobody waits for the bytes:
# the task has ended, or somebody else has it.
#   KEYS out owners   ARGV task attempt worker
MOVING = """
local current = string.match(redis.call('HGET', KEYS[1], ARGV[1]) or '', '^(%d+)|')
if not current then return 0 end
local owner = redis.call('HGET', KEYS[2], ARGV[1]) or ''
local attempt, _, delivered, name = string.match(owner, '^(%d+)|(%d+)|(%d)|(.*)$')
if attempt == current and name ~= ARGV[3] then return 0 end
if attempt == current and current == ARGV[2] and delivered == '0' then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  redis.call('HSET', KEYS[2], ARGV[1], string.format('%s|%.0f|0|%s', attempt, now, name))
end
return 1
"""

# What of a chunk has arrived, its length and its SHA-1, and so much more time for it.
#   KEYS chunk   ARGV expire-seconds
ARRIVED = """
local there = redis.call('GET', KEYS[1])
if not there then return {0, ''} end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {#there, redis.sha1hex(there)}
"""

# A task that ended without an update, reported only by the worker that has it and has not delivered.
#   KEYS log owners pins epoch   ARGV task attempt worker report
REPORT = """
local epoch = redis.call('GET', KEYS[4])
if epoch == 'ended' then return false end
local owner = redis.call('HGET', KEYS[2], ARGV[1])
if owner then
  local attempt, _, delivered, name = string.match(owner, '^(%d+)|(%d+)|(%d)|(.*)$')
  if attempt ~= ARGV[2] or delivered == '1' or name ~= ARGV[3] then return false end
  redis.call('HSET', KEYS[2], ARGV[1], attempt .. '|0|1|' .. name)
end
redis.call('HDEL', KEYS[3], ARGV[1])
local id = redis.call('XADD', KEYS[1], '*', 'r', ARGV[4])
if not epoch then redis.call('EXPIRE', KEYS[1], UNKNOWN_SECONDS) end
return id
""".replace("UNKNOWN_SECONDS", str(UNKNOWN_SECONDS))

# A sign of life. A register of live workers per queue lets coordinators count them, however many there are; it holds
# nobody who was due a day ago, and goes by itself when all of a queue's workers are gone.
#   KEYS beats seen holding live...   ARGV worker beat holding due-ms(from now)
BEAT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now, ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
for i = 4, #KEYS do
  redis.call('ZADD', KEYS[i], now + ARGV[4], ARGV[1])
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - 86400000)
  redis.call('PEXPIRE', KEYS[i], 600000)
end
return 1
"""

# Whatever the coordinator writes goes through here: it takes effect only while the lease is its own, and once. Each
# commit leaves its mark and names the one before it, and that of a commit since then whose answer got lost. A mark that
# is there already is its own; any other shows that the server has forgotten commits. The mark comes last: a server that
# is out of memory runs the commands only if the first of them frees some. What it counts (HINCRBY) stands among
# everybody's counts, and costs no commit where somebody has written nonsense there.
#   KEYS writer fence epoch commits   ARGV token fence epoch lease-ms mark-before doubtful-mark mark commands(cmsgpack)
FENCED = """
local mark = redis.call('GET', KEYS[4]) or ''
if mark == ARGV[7] then return 0 end
local epoch = redis.call('GET', KEYS[3])
if epoch ~= ARGV[3] then return redis.error_reply('LOSTDATA gone') end
local fence, owner = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+)|(.*)$')
if not fence then return redis.error_reply('LOSTDATA incomplete') end
if tonumber(fence) < tonumber(ARGV[2]) then return redis.error_reply('LOSTDATA older') end
if owner ~= ARGV[1] then return redis.error_reply('FENCEDOUT') end
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] then
  if holder then return redis.error_reply('FENCEDOUT') end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[4])
end
if mark ~= ARGV[5] and mark ~= ARGV[6] then
  return redis.error_reply('LOSTDATA ' .. (mark == '' and 'incomplete' or 'older'))
end
for _, command in ipairs(cmsgpack.unpack(ARGV[8])) do
  if command[1] == 'HINCRBY' then redis.pcall(unpack(command)) else redis.call(unpack(command)) end
end
redis.call('SET', KEYS[4], ARGV[7], 'KEEPTTL')
return 1
"""

# Take the lease if nobody else holds it, and raise the fence above every one before, which shuts out earlier holders.
# Asked again after its answer got lost, it is ours already. The floor is the highest fence in the checkpoints: a server
# that lost its data must not count from 1 again. The answer holds the mark of the last commit.
#   KEYS writer fence commits   ARGV token lease-ms floor
ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
local fence = tonumber(string.match(redis.call('GET', KEYS[2]) or '', '^(%d+)|') or '0')
if fence > 2^52 then fence = 0 end
fence = string.format('%.0f', math.max(fence, tonumber(ARGV[3])) + 1)
redis.call('SET', KEYS[2], fence .. '|' .. ARGV[1])
return {fence, redis.call('GET', KEYS[3]) or ''}
"""

# Keep the lease; 0 when it has passed to another. A server whose fence is behind has lost data: nobody took over then,
# and the next commit finds out.
#   KEYS writer fence   ARGV token fence lease-ms
RENEW = """
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] then
  local fence, owner = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+)|(.*)$')
  if not fence or tonumber(fence) < tonumber(ARGV[2]) then return 1 end
  if holder or owner ~= ARGV[1] then return 0 end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 1
"""

#   KEYS writer   ARGV token
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""

# Have a stream go on after a position that was read once, also where the server lost what was there, or its clock went
# back. It fails to add where the stream is that far, and then nothing is to be done.
#   KEYS stream   ARGV position
CONTINUE = """
redis.call('PERSIST', KEYS[1])
local added = redis.pcall('XADD', KEYS[1], ARGV[1], 'x', '')
if type(added) ~= 'string' then return 0 end
redis.call('XDEL', KEYS[1], added)
return 1
"""

# Drop keys of a campaign that nobody coordinates.
#   KEYS writer [keys ...]
DROP_ORPHANED = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if #KEYS > 1 then redis.call('UNLINK', unpack(KEYS, 2)) end
return 1
"""

# The next entries of a stream, as many as make no more than so many bytes. Each is weighed before it travels: one that
# is too large itself comes without its fields, and is the last one of its page.
#   KEYS stream
#   ARGV after count max-bytes
READ_SMALL = """
local after, left, limit = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[3])
local page = {}
while #page < tonumber(ARGV[2]) do
  local entry = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', 1)[1]
  if not entry then break end
  local size = 0
  for _, word in ipairs(entry[2]) do size = size + #word end
  if size > limit then
    entry[2] = {}
  elseif size > left then
    break
  end
  left, after, page[#page + 1] = left - size, entry[1], entry
  if size > limit then break end
end
return page
"""

# The newest position that a stream ever had, 0-0 where there is none. XINFO itself sends its first and last entry, too.
#   KEYS stream
STREAM_END = """
if redis.call('EXISTS', KEYS[1]) == 0 then return '0-0' end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for at = 1, #info, 2 do
  if info[at] == 'last-generated-id' then return info[at + 1] end
end
return '0-0'
"""
