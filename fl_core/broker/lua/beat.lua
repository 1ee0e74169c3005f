-- A sign of life. A register of live workers per queue lets coordinators count them, however many there are; it holds
-- nobody who was due a day ago, and goes by itself when all of a queue's workers are gone.
--   KEYS beats seen holding live...
--   ARGV worker beat holding due-ms(from now)
--   answer 1
local beats, seen, holding = unpack(KEYS, 1, 3)
local worker, beat, held, due_ms = unpack(ARGV)

local now = now_ms()
redis.call('HSET', beats, worker, beat)
redis.call('ZADD', seen, now, worker)
redis.call('HSET', holding, worker, held)
for i = 4, #KEYS do
  redis.call('ZADD', KEYS[i], now + due_ms, worker)
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now - FORGET_MS)
  redis.call('PEXPIRE', KEYS[i], UNSERVED_MS)
end
return 1
