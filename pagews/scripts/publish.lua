-- ARGV: epoch, channel, body, seconds to live or '', idempotency key or '', receipt or '', the node that waits for it.
-- Returns: its number.

tick()
local channel, key = ARGV[2], ARGV[5]
if ARGV[6] ~= '' then
    local askers = prefix .. 'askers:' .. ARGV[6]
    redis.call('SADD', askers, ARGV[7])
    redis.call('PEXPIRE', askers, milliseconds(retention + SAFETY))
end
if key ~= '' then
    -- Both may have spaces: the length says where the one ends.
    key = prefix .. 'key:' .. #channel .. ' ' .. channel .. ' ' .. key
    local filed = redis.call('GET', key)
    if filed then
        return { 'ok', filed }
    end
end
local deadline = ''
if ARGV[4] ~= '' and tonumber(ARGV[4]) < retention then
    deadline = string.format('%.6f', now + tonumber(ARGV[4]))
end
local number = file(channel, ARGV[3], deadline)
if key ~= '' then
    redis.call('SET', key, digits(number), 'PX', milliseconds(retention))
end
return { 'ok', digits(number) }
