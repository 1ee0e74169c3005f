-- Take the lease if nobody else holds it, and raise the fence above every one before, which shuts out earlier holders.
--   KEYS writer fence commits
--   ARGV token lease-ms floor
--   answer {fence, mark of the last commit}, or nil where another holds it
-- Asked again after its answer got lost, it is ours already. The floor is the highest fence in the checkpoints: a
-- server that lost its data must not count from 1 again.
local writer, fence_key, commits = unpack(KEYS)
local token, lease_ms, floor = unpack(ARGV)

local holder = redis.call('GET', writer)
if holder and holder ~= token then return false end
redis.call('SET', writer, token, 'PX', lease_ms)
local fence = tonumber(read_fence(redis.call('GET', fence_key)) or '0')
if fence > 2^52 then fence = 0 end
fence = digits(math.max(fence, tonumber(floor)) + 1)
redis.call('SET', fence_key, fence .. '|' .. token)
return {fence, redis.call('GET', commits) or ''}
