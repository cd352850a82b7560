-- Rule 24: file an answer for whoever asked. ARGV: epoch, receipt, answer.
-- Returns: for how many nodes.

-- Bytes of answers that may wait for one node: it may be away, or have died.
local MOST_BYTES = 16 * 1024 * 1024

local count = 0
for _, node in ipairs(redis.call('SMEMBERS', prefix .. 'askers:' .. ARGV[2])) do
    local key = prefix .. 'answers:' .. node
    if (redis.call('MEMORY', 'USAGE', key) or 0) < MOST_BYTES then
        redis.call('RPUSH', key, ARGV[3])
        redis.call('PEXPIRE', key, milliseconds(retention + SAFETY))
        redis.call('PUBLISH', prefix .. 'node:' .. node, 'answers')
        count = count + 1
    end
end
return { 'ok', count }
