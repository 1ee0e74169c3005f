-- A device whose bytes move is at work: its task's time begins again.
--   KEYS open-tasks owners
--   ARGV task attempt worker
--   answer 0 where nobody waits for the bytes: the task has ended, or somebody else has it; else 1
local open_tasks, owners = unpack(KEYS)
local task, attempt, worker = unpack(ARGV)

local current = read_open(redis.call('HGET', open_tasks, task))
if not current then return 0 end
local owned, _, delivered, name = read_owner(redis.call('HGET', owners, task))
if owned == current and name ~= worker then return 0 end
if owned == current and current == attempt and delivered == '0' then
  redis.call('HSET', owners, task, owner_row(attempt, digits(now_ms()), '0', worker))
end
return 1
