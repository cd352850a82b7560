-- Rule 25. ARGV: epoch, node, page, document, number of the send, '1' to claim it, seconds after which a node counts as
-- dead.
-- Returns: 'free' (claimed now, if asked), 'known', 'running' (elsewhere, by a node that lives), or 'done' with the
-- result; then how many results it has cost.

tick()
local node, page, id = ARGV[2], ARGV[3], tonumber(ARGV[5])
local record = record_of(page)
if not record or record.document ~= ARGV[4] or id < tonumber(record.low or 0) then
    return { 'ok', 'known', '', 0 }
end
local key = prefix .. 'sends:' .. page
local value = redis.call('HGET', key, digits(id))
if value and string.sub(value, 1, 1) == '=' then
    return { 'ok', 'done', string.sub(value, 2), 0 }
end
if value then
    local runner = string.sub(value, 2)
    local seen = runner ~= node and redis.call('ZSCORE', prefix .. 'alive', runner)
    return { 'ok', seen and tonumber(seen) > now - tonumber(ARGV[7]) and 'running' or 'known', '', 0 }
end
local cost = 0
if ARGV[6] == '1' then
    if redis.call('HLEN', key) >= results_kept + 2 then
        cost = forget_oldest(page)
    end
    redis.call('HSET', key, digits(id), '!' .. node)
    redis.call('HSET', key, 'top', digits(math.max(id, tonumber(redis.call('HGET', key, 'top') or 0))))
end
return { 'ok', 'free', '', cost }
