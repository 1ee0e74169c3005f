-- Have a stream go on after a position that was read once, also where the server lost what was there, or its clock went
-- back.
--   KEYS stream
--   ARGV position
--   answer 1, or 0 where the stream is that far and nothing is to be done
redis.call('PERSIST', KEYS[1])
local added = redis.pcall('XADD', KEYS[1], ARGV[1], 'x', '')
if type(added) ~= 'string' then return 0 end
redis.call('XDEL', KEYS[1], added)
return 1
