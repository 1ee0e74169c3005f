-- A finished update enters the log; its task is marked as delivered in the same step, so that the worker's next beat
-- (which no longer holds the task) is not read as a loss. A campaign that has ended takes nothing more.
--   KEYS log owners open-tasks pins incarnation
--   ARGV task attempt worker header payload [blob chunk keys ...]
--   answer the entry's position | 'over' | error MISSINGCHUNK key
local log, owners, open_tasks, pins, incarnation_key = unpack(KEYS)
local task, attempt, worker, header, payload = unpack(ARGV, 1, 5)

local incarnation = redis.call('GET', incarnation_key)
if incarnation == 'ended' then return 'over' end
for i = 6, #ARGV do
  if redis.call('EXISTS', ARGV[i]) == 0 then return redis.error_reply('MISSINGCHUNK ' .. ARGV[i]) end
end
for i = 6, #ARGV do
  if incarnation then redis.call('PERSIST', ARGV[i]) else redis.call('EXPIRE', ARGV[i], UNKNOWN_SECONDS) end
end
local position
if payload == '' then position = redis.call('XADD', log, '*', 'u', header)
else position = redis.call('XADD', log, '*', 'u', header, 'p', payload) end
if not incarnation then redis.call('EXPIRE', log, UNKNOWN_SECONDS) end
if read_open(redis.call('HGET', open_tasks, task)) == attempt then
  local _, claimed = read_owner(redis.call('HGET', owners, task))
  redis.call('HSET', owners, task, owner_row(attempt, claimed or '0', '1', worker))
end
redis.call('HDEL', pins, task)
return position
