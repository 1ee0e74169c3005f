-- What some devices say of themselves, each in a hash of its own. A field that is longer than any of ours is not read.
--   KEYS device...
--   ARGV field...
--   answer for each device a list with the value of each field, or nil
local found = {}
for i = 1, #KEYS do
  local values = {}
  for j = 1, #ARGV do
    local length = redis.pcall('HSTRLEN', KEYS[i], ARGV[j])
    values[j] = type(length) == 'number' and length <= MAX_FIELD_BYTES and redis.call('HGET', KEYS[i], ARGV[j])
  end
  found[i] = values
end
return found
