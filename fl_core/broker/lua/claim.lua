-- A worker takes a task and learns the order and the newest version in the same round trip (late binding).
--   KEYS open-tasks owners head pins queue-counts patches order said rests
--   ARGV task attempt worker cached-digest model-prefix queue inline-limit order-digest
--   answer {'gone'} | {'taken'} | {'resting'} | {'spent'} |
--          {'ok', waited-ms, version, digest, num_bytes, num_chunks, place, updates, codec, order, sealed [, more]}
--          where sealed is the pointer as its coordinator has signed it, or '', and more is the version's only chunk,
--          or '' and the patches that lead to the version
-- A doorbell that was answered, superseded or cancelled in the meantime is told that it is gone, which makes a repeated
-- doorbell harmless. Nobody writes over a claim: each attempt has a row of its own. A worker may claim again what it has
-- and has not answered, to learn of a newer version. The order is sent to who does not have it. With privacy a device may
-- have to rest until a version, or have spent its budget: it claims nothing then.
local open_tasks, owners, head_key, pins, counts, patches, order_key, said, rests = unpack(KEYS)
local task, attempt, worker, cached, model, queue, inline_limit, known_order = unpack(ARGV)

local open_attempt, issued = read_open(redis.call('HGET', open_tasks, task))
if open_attempt ~= attempt then return {'gone'} end
local field = attempt_of(task, attempt)
local again = redis.call('HGET', owners, field)
if again and (read_owner(again) ~= worker or has_answered(said, field)) then return {'taken'} end
local head = redis.call('HMGET', head_key, 'version', 'digest', 'num_bytes', 'num_chunks', 'place', 'updates', 'codec',
  'order', 'sealed')
if not head[1] or not head[8] then return {'gone'} end
local rest = not again and redis.pcall('HGET', rests, worker)
if rest == 'spent' then return {'spent'} end
if type(rest) == 'string' and (tonumber(head[1]) or 0) < (tonumber(rest) or 0) then return {'resting'} end
local order = ''
if head[8] ~= known_order then
  order = redis.call('GET', order_key)
  if not order then return {'gone'} end
end
local now = now_ms()
if not again then
  redis.call('HSETNX', owners, field, worker .. '|' .. digits(now))
  redis.pcall('HDEL', said, field)
end

-- The queue's counts are everybody's: that somebody has written nonsense there costs no claim.
local wait = math.max(0, now - tonumber(issued))
local waited = digits(wait)
if not again then
  local bucket = 0
  for _, bound in ipairs(WAIT_BOUNDS_MS) do
    if wait <= bound then break end
    bucket = bucket + 1
  end
  redis.pcall('HINCRBY', counts, queue .. ':claimed', 1)
  redis.pcall('HINCRBY', counts, queue .. ':waited_ms', waited)
  redis.pcall('HINCRBY', counts, queue .. ':wait' .. bucket, 1)
  local before = redis.pcall('HGET', counts, queue .. ':recent')
  local recent = waited .. ',' .. (type(before) == 'string' and before or '')
  if #recent > RECENT_WAITS_CHARACTERS then
    recent = string.match(string.sub(recent, 1, RECENT_WAITS_CHARACTERS), '^(.*,)')
  end
  redis.pcall('HSET', counts, queue .. ':recent', recent)
end

local version, digest, num_bytes = head[1], head[2], tonumber(head[3]) or 0
local answer = {'ok', waited, version, digest, head[3], head[4], head[5] or '', head[6] or '', head[7] or 'fp32', order,
  head[9] or ''}
if digest == cached then return answer end
if answer[7] == '' and head[4] == '1' and num_bytes <= tonumber(inline_limit) then
  answer[12] = redis.call('GET', model .. ':' .. version .. ':0')
  return answer
end
redis.call('HSET', pins, task, version)

-- Where the version that the worker holds is at the beginning of a chain of patches that leads to the newest one, and
-- they are fewer bytes than it, they are named as well.
local held, left, chain = cached, num_bytes, {}
while held ~= '' and held ~= digest and #chain < MAX_PATCHES do
  local row = redis.call('HGET', patches, held)
  if not row then break end
  local to, patch_bytes = string.match(row, '^(%x+)|%d+|(%d+)|')
  if not to then break end
  left = left - tonumber(patch_bytes)
  if left <= 0 then break end
  held, chain[#chain + 1] = to, row
end
if held == digest then
  answer[12] = ''
  for i, row in ipairs(chain) do answer[12 + i] = row end
end
return answer
