-- What stands before all functions: the rows that several of them read or write, and the server's clock.
-- The same rows in Python: OpenRow and Owner in fl_core/broker/task_rows.py.

-- A hash's row of an open task: "attempt|issued ms|queue". Both answers are nil where it is none.
local function read_open(row)
  return string.match(row or '', '^(%d+)|(%d+)|')
end

-- A hash's row of a task's owner: "attempt|claimed ms|delivered|worker". All answers are nil where it is none.
local function read_owner(row)
  return string.match(row or '', '^(%d+)|(%d+)|(%d)|(.*)$')
end

local function owner_row(attempt, claimed, delivered, worker)
  return attempt .. '|' .. claimed .. '|' .. delivered .. '|' .. worker
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
