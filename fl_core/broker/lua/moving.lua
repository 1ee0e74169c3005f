-- A device whose bytes move is at work, and says so: its task's time begins again.
--   KEYS open-tasks owners said
--   ARGV task attempt worker
--   answer 0 where nobody waits for the bytes: the task has ended, or somebody else has it; else 1
local open_tasks, owners, said = unpack(KEYS)
local task, attempt, worker = unpack(ARGV)

local current = read_open(redis.call('HGET', open_tasks, task))
if not current then return 0 end
local field = attempt_of(task, current)
local owner = read_owner(redis.call('HGET', owners, field))
if owner and owner ~= worker then return 0 end
if owner and current == attempt and not has_answered(said, field) then
  say(said, open_tasks, field, digits(now_ms()))
end
return 1
