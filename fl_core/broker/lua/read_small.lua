-- The next entries of a stream, as many as make no more than so many bytes.
--   KEYS stream
--   ARGV after count max-bytes
--   answer {{position, {name, value, ...}}, ...}
-- Each entry is weighed before it travels: one that is too large itself comes without its fields, and is the last one
-- of its page.
local after, left, limit = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[3])
local page = {}
while #page < tonumber(ARGV[2]) do
  local entry = redis.call('XRANGE', KEYS[1], '(' .. after, '+', 'COUNT', 1)[1]
  if not entry then break end
  local size = 0
  for _, word in ipairs(entry[2]) do size = size + #word end
  if size > limit then
    entry[2] = {}
  elseif size > left then
    break
  end
  left, after, page[#page + 1] = left - size, entry[1], entry
  if size > limit then break end
end
return page
