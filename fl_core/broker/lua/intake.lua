-- What devices and keepers have put into the inbox goes into the log, in the order in which it came; only the coordinator that has
-- the lease does that, and nobody else writes the log.
--   KEYS writer fence commits inbox log bell
--   ARGV token fence mark-before doubtful-mark count max-bytes max-entry-bytes
--   answer how many entries are left in the inbox | error FENCEDOUT | error LOSTDATA incomplete or older
-- Entries are moved in this one step, so that none is lost or doubled whoever dies, or whichever answer gets lost. One
-- that is too large, or of no kind that is sent here, leaves an empty update behind, which the campaign counts as
-- malformed. Whoever finds the inbox empty from now on rings again.
-- To read an entry costs copies of it. Where some may be huge, the first one is weighed before: what the server tells is
-- the first node's size times the number of nodes, which is no more than the number of entries.
local writer, fence_key, commits, inbox, log, bell = unpack(KEYS)
local token, fence, mark_before, doubtful_mark, count, max_bytes, max_entry_bytes = unpack(ARGV)

local why_not = refusal(redis.call('GET', fence_key), token, fence, redis.call('GET', writer) or nil,
  redis.call('GET', commits) or '', mark_before, doubtful_mark)
if why_not then return redis.error_reply(why_not) end
redis.call('DEL', bell)
local function weight(samples)
  return redis.call('MEMORY', 'USAGE', inbox, 'SAMPLES', samples) or 0
end
local left, most = tonumber(max_bytes), tonumber(max_entry_bytes)
local some_may_be_huge = weight(count) > HUGE_BYTES
for _ = 1, tonumber(count) do
  local is_huge = some_may_be_huge and weight(1) > 2 * most * redis.call('LLEN', inbox)
  local entry = left > 0 and (is_huge and '' or redis.call('LINDEX', inbox, 0))
  if not entry then break end
  left = left - #entry
  local kind, length, start = string.match(string.sub(entry, 1, 12), '^([urk])(%d+):()')
  local header_end = length and start + tonumber(length) - 1
  if not length or #entry > most or header_end > #entry then
    redis.call('XADD', log, '*', 'u', '')
  elseif header_end == #entry then
    redis.call('XADD', log, '*', kind, string.sub(entry, start))
  else
    redis.call('XADD', log, '*', kind, string.sub(entry, start, header_end), 'p', string.sub(entry, header_end + 1))
  end
  redis.call('LTRIM', inbox, 1, -1)
end
return redis.call('LLEN', inbox)
