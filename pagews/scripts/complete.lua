-- ARGV: epoch, node, page, document, number of the send, its result.
-- Returns: how many results of other sends it has cost.

tick()
local node, page, id = ARGV[2], ARGV[3], digits(tonumber(ARGV[5]))
local record = record_of(page)
local key = prefix .. 'sends:' .. page
local claim = redis.call('HGET', key, id)
-- Rule 25: only if the claim still holds.
if not record or record.document ~= ARGV[4] or record.gone or runner_of(claim) ~= node then
    return { 'ok', 0 }
end
redis.call('HSET', key, id, '=' .. ARGV[6])
local cost = 0
local size = redis.call('HINCRBY', key, 'size', #ARGV[6] + 1)
while size > channel_bytes and redis.call('HLEN', key) > 3 do
    cost = cost + forget_oldest(page)
    size = tonumber(redis.call('HGET', key, 'size'))
end
for waiting in string.gmatch(claim, ' (%S+)') do
    redis.call('PUBLISH', prefix .. 'node:' .. waiting, 'result')
end
return { 'ok', cost }
