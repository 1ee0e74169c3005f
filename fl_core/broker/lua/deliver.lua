-- A finished update goes into the inbox, from which the coordinator moves it into the log. In the same step its device
-- says that it has answered, so that its next beat (which no longer holds the task) is not read as a loss. A campaign
-- that has ended takes nothing more; one that the server has forgotten takes nothing until its coordinator is back.
--   KEYS inbox bell open-tasks pins incarnation said
--   ARGV task attempt entry [blob chunk keys ...]
--   answer 'ok' | 'over' | 'unknown' | 'full' | error MISSINGCHUNK key
-- No device can take anything out of the inbox or out of the log. Each task is answered once or a little more often, so
-- that an inbox which is longer than that is somebody's who means harm, or nobody takes anything out of it.
local inbox, bell, open_tasks, pins, incarnation_key, said = unpack(KEYS)
local task, attempt, entry = unpack(ARGV, 1, 3)

local incarnation = redis.call('GET', incarnation_key)
if incarnation == 'ended' then return 'over' end
if not incarnation then return 'unknown' end
for i = 4, #ARGV do
  if redis.call('EXISTS', ARGV[i]) == 0 then return redis.error_reply('MISSINGCHUNK ' .. ARGV[i]) end
end
if redis.call('LLEN', inbox) >= 2 * redis.call('HLEN', open_tasks) + INBOX_SLACK then return 'full' end
for i = 4, #ARGV do redis.call('PERSIST', ARGV[i]) end
put(inbox, bell, entry)
if read_open(redis.call('HGET', open_tasks, task)) == attempt then
  say(said, open_tasks, attempt_of(task, attempt), 'answered')
end
redis.call('HDEL', pins, task)
return 'ok'
