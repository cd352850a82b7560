-- Rule 22. ARGV: epoch, channel, wall-clock seconds, seconds for which it is kept.

tick()
redis.call('SET', prefix .. 'revoked:' .. ARGV[2], ARGV[3], 'PX', milliseconds(tonumber(ARGV[4])))
file(ARGV[2], 'r', '')
return { 'ok' }
