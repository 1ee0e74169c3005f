-- Give the lease back.
--   KEYS writer
--   ARGV token
--   answer 1, or 0 where another holds it
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
