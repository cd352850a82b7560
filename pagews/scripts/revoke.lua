-- Rule 22. ARGV: epoch, channel, wall-clock seconds, seconds for which it is kept.

tick()
local key = prefix .. 'revoked:' .. ARGV[2]
local before = redis.call('GET', key)
-- A host whose clock is behind must not let in again whom another one has thrown out.
local time = before and tonumber(before) > tonumber(ARGV[3]) and before or ARGV[3]
redis.call('SET', key, time, 'PX', milliseconds(tonumber(ARGV[4])))
file(ARGV[2], 'r', '')
return { 'ok' }
