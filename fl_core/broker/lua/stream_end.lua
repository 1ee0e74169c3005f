-- The newest position that a stream ever had.
--   KEYS stream
--   answer the position, 0-0 where there is no stream
-- XINFO itself would send the first and the last entry, too.
if redis.call('EXISTS', KEYS[1]) == 0 then return '0-0' end
local info = redis.call('XINFO', 'STREAM', KEYS[1])
for at = 1, #info, 2 do
  if info[at] == 'last-generated-id' then return info[at + 1] end
end
return '0-0'
