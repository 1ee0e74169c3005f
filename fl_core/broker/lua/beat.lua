-- A sign of life: what the device says of itself, in a hash of its own, and its place in the registers by which devices
-- are found and counted. A register's members are "name token"; the token is drawn anew by each worker and stands in
-- its hash, which no other device reads: so none can take another one's place out, or change it.
--   KEYS device devices live...
--   ARGV name token beat holding due-ms(from now)
--   answer 1
local device, devices = KEYS[1], KEYS[2]
local name, token, beat, held, due_ms = unpack(ARGV)

local now = now_ms()
local member = name .. ' ' .. token
local row = redis.pcall('HGET', device, 'row')
if type(row) == 'table' then
  redis.call('UNLINK', device)  -- somebody has put something else there
  row = nil
end
local before = string.match(row or '', '^%d+|(%x+)|')
if before and before ~= token then
  for i = 2, #KEYS do
    redis.call('ZREM', KEYS[i], name .. ' ' .. before)
  end
end
redis.call('HSET', device, 'row', digits(now) .. '|' .. token .. '|' .. held, 'beat', beat)
redis.call('PEXPIRE', device, FORGET_MS)
redis.call('ZADD', devices, now, member)
for i = 3, #KEYS do
  redis.call('ZADD', KEYS[i], now + due_ms, member)
end
return 1
