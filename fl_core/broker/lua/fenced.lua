-- Whatever the coordinator writes goes through here: it takes effect only while the lease is its own, and once.
--   KEYS writer fence incarnation commits
--   ARGV token fence incarnation lease-ms mark-before doubtful-mark mark commands(cmsgpack)
--   answer 1 | 0 where this commit has taken effect before | error FENCEDOUT | error LOSTDATA gone, incomplete or older
-- Each commit leaves its mark and names the one before it, and that of a commit since then whose answer got lost. A
-- mark that is there already is its own; any other shows that the server has forgotten commits. A server that is out of
-- memory runs it by another name, where the first of the commands frees some (lease.py).
local writer, fence_key, incarnation_key, commits = unpack(KEYS)
local token, fence, incarnation, lease_ms, mark_before, doubtful_mark, mark, commands = unpack(ARGV)

local found_mark = redis.call('GET', commits) or ''
if found_mark == mark then return 0 end
if redis.call('GET', incarnation_key) ~= incarnation then return redis.error_reply('LOSTDATA gone') end
local holder = redis.call('GET', writer) or nil
local why_not = refusal(redis.call('GET', fence_key), token, fence, holder, found_mark, mark_before, doubtful_mark)
if why_not then return redis.error_reply(why_not) end
if not holder then redis.call('SET', writer, token, 'PX', lease_ms) end
for _, command in ipairs(cmsgpack.unpack(commands)) do
  -- What it counts stands among everybody's counts, and costs no commit where somebody has written nonsense there.
  if command[1] == 'HINCRBY' then redis.pcall(unpack(command)) else redis.call(unpack(command)) end
end
redis.call('SET', commits, mark, 'KEEPTTL')
return 1
