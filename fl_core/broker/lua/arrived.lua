-- What of a chunk has arrived, and so much more time for it.
--   KEYS chunk
--   ARGV expire-seconds
--   answer {length, SHA-1 in hex}, {0, ''} where nothing has
local there = redis.call('GET', KEYS[1])
if not there then return {0, ''} end
redis.call('EXPIRE', KEYS[1], ARGV[1])
return {#there, redis.sha1hex(there)}
