-- Drop keys of a campaign that nobody coordinates.
--   KEYS writer [keys ...]
--   answer 1, or 0 where somebody does
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
if #KEYS > 1 then redis.call('UNLINK', unpack(KEYS, 2)) end
return 1
