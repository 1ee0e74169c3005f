-- What some devices say of themselves, each in a hash of its own. A field that is longer than any of ours is not read.
--   KEYS device...
--   ARGV field...
--   answer for each device the value of each field or nil, one after the other
local found, pcall, call, longest = {}, redis.pcall, redis.call, MAX_FIELD_BYTES
local at = 0
for _, key in ipairs(KEYS) do
  for _, field in ipairs(ARGV) do
    local length = pcall('HSTRLEN', key, field)
    at = at + 1
    found[at] = type(length) == 'number' and length <= longest and call('HGET', key, field)
  end
end
return found
