-- A task that ended without an update, reported only by the worker that has it and has not delivered.
--   KEYS log owners pins incarnation
--   ARGV task attempt worker report
--   answer the entry's position, or nil where it is not this worker's to report, or the campaign has ended
local log, owners, pins, incarnation_key = unpack(KEYS)
local task, attempt, worker, report = unpack(ARGV)

local incarnation = redis.call('GET', incarnation_key)
if incarnation == 'ended' then return false end
local owner = redis.call('HGET', owners, task)
if owner then
  local owned, _, delivered, name = read_owner(owner)
  if owned ~= attempt or delivered == '1' or name ~= worker then return false end
  redis.call('HSET', owners, task, owner_row(attempt, '0', '1', worker))
end
redis.call('HDEL', pins, task)
local position = redis.call('XADD', log, '*', 'r', report)
if not incarnation then redis.call('EXPIRE', log, UNKNOWN_SECONDS) end
return position
