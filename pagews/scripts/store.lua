-- Compare and set a variable. ARGV: epoch, page, name, '1' and the value that is expected, or '' and '';
-- '1' and the value to keep, or '' and '' to forget it; what a variable counts beside its name and value, and the bytes
-- that a page may keep.
-- Returns: nothing, or 'changed', or 'full' and the bytes there would be.

tick()
local page, name = ARGV[2], ARGV[3]
local record = record_of(page)
if has_ended(page, record) then
    return { 'ended' }
end
local key = prefix .. 'variables:' .. page
local before = redis.call('HGET', key, name)
if ARGV[4] == '1' and before ~= ARGV[5] or ARGV[4] == '' and before then
    return { 'ok', 'changed' }
end
local growth = 0
if ARGV[6] == '1' then
    growth = tonumber(ARGV[8]) + #name + #ARGV[7]
end
if before then
    growth = growth - tonumber(ARGV[8]) - #name - #before
end
local size = tonumber(record and record.size or 0) + growth
if growth > 0 and size > tonumber(ARGV[9]) then
    return { 'ok', 'full', size }
end
if ARGV[6] == '1' then
    if not record then
        new_record(page)
    end
    redis.call('HSET', key, name, ARGV[7])
    expire_with_record(page, key)
elseif before then
    redis.call('HDEL', key, name)
else
    return { 'ok' }
end
redis.call('HSET', key_of(page), 'size', digits(size))
return { 'ok' }
