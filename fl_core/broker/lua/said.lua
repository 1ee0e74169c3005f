-- What devices say of attempts that they have.
--   KEYS said ...
--   ARGV attempt ... (one for each key)
--   answer the words, '' where nothing is said, or what no device of ours says
local words = {}
for i, said in ipairs(KEYS) do
  local length = redis.pcall('HSTRLEN', said, ARGV[i])
  words[i] = type(length) == 'number' and length > 0 and length <= 20 and redis.call('HGET', said, ARGV[i]) or ''
end
return words
