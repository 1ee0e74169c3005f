-- What stands before all functions: the rows that several of them read or write, and the server's clock.
-- The same rows in Python: fl_core/broker/task_rows.py.

-- A hash's row of an open task: "attempt|issued ms|queue". Both answers are nil where it is none.
local function read_open(row)
  return string.match(row or '', '^(%d+)|(%d+)|')
end

-- Which attempt of a task it is about, as a field of "owners" and of what devices say.
local function attempt_of(task, attempt)
  return task .. '#' .. attempt
end

-- A hash's row of an attempt's owner: "worker|claimed ms". Both answers are nil where it is none.
local function read_owner(row)
  return string.match(row or '', '^(.+)|(%d+)$')
end

-- The newest lease: "number|token". Both answers are nil where there is none.
local function read_fence(row)
  return string.match(row or '', '^(%d+)|(.*)$')
end

-- A whole number in digits; Lua's own way would write large ones with an exponent.
local function digits(number)
  return string.format('%.0f', number)
end

-- The server's clock, in milliseconds.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- Why a coordinator may not write, as an error: somebody else may, or the server has forgotten what it knew. Nil where
-- it may.
local function refusal(fence_row, token, fence, holder, found_mark, mark_before, doubtful_mark)
  local found_fence, owner = read_fence(fence_row)
  if not found_fence then return 'LOSTDATA incomplete' end
  if tonumber(found_fence) < tonumber(fence) then return 'LOSTDATA older' end
  if owner ~= token or (holder and holder ~= token) then return 'FENCEDOUT' end
  if found_mark ~= mark_before and found_mark ~= doubtful_mark then
    return found_mark == '' and 'LOSTDATA incomplete' or 'LOSTDATA older'
  end
end

-- Whether a device has said that it has answered an attempt. Of a key that holds something else it has said nothing.
local function has_answered(said, attempt)
  return redis.pcall('HGET', said, attempt) == 'answered'
end

-- A device writes down what it says of an attempt, and forgets what it said of tasks that nobody waits for any more.
local function say(said, open_tasks, attempt, word)
  local fields = redis.pcall('HKEYS', said)
  if fields.err then return end
  for _, field in ipairs(fields) do
    local task, number = string.match(field, '^(.*)#(%d+)$')
    if not task or read_open(redis.call('HGET', open_tasks, task)) ~= number then redis.call('HDEL', said, field) end
  end
  redis.call('HSET', said, attempt, word)
  redis.call('EXPIRE', said, SAID_SECONDS)
end

-- An entry for the log waits in the inbox until the coordinator takes it in. Whoever puts the first one there rings.
local function put(inbox, bell, entry)
  if redis.call('RPUSH', inbox, entry) == 1 then redis.pcall('XADD', bell, 'MAXLEN', 1, '*', 'x', '') end
end
