-- A task that ended without an update, reported only by the worker that has it and has not answered.
--   KEYS inbox bell owners open-tasks pins incarnation said
--   ARGV task attempt worker entry
--   answer 1, or nil where it is not this worker's to report, or the campaign has ended or is not known
local inbox, bell, owners, open_tasks, pins, incarnation_key, said = unpack(KEYS)
local task, attempt, worker, entry = unpack(ARGV)

local incarnation = redis.call('GET', incarnation_key)
if not incarnation or incarnation == 'ended' then return false end
local field = attempt_of(task, attempt)
local owner = redis.call('HGET', owners, field)
if owner and (read_owner(owner) ~= worker or has_answered(said, field)) then return false end
put(inbox, bell, entry)
if owner then say(said, open_tasks, field, 'answered') end
redis.call('HDEL', pins, task)
return 1
