-- Keep the lease.
--   KEYS writer fence
--   ARGV token fence lease-ms
--   answer 0 when it has passed to another, else 1
-- A server whose fence is behind has lost data: nobody took over then, and the next commit finds out.
local writer, fence_key = unpack(KEYS)
local token, fence, lease_ms = unpack(ARGV)

local holder = redis.call('GET', writer)
if holder ~= token then
  local found_fence, owner = read_fence(redis.call('GET', fence_key))
  if not found_fence or tonumber(found_fence) < tonumber(fence) then return 1 end
  if holder or owner ~= token then return 0 end
end
redis.call('SET', writer, token, 'PX', lease_ms)
return 1
