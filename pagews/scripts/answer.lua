-- Rule 24: file an answer for whoever asked. ARGV: epoch, receipt, answer.
-- Returns: how many nodes wait for it.

local askers = redis.call('SMEMBERS', prefix .. 'askers:' .. ARGV[2])
for _, node in ipairs(askers) do
    local key = prefix .. 'answers:' .. node
    redis.call('RPUSH', key, ARGV[3])
    redis.call('PEXPIRE', key, milliseconds(retention + SAFETY))
    redis.call('PUBLISH', prefix .. 'node:' .. node, 'answers')
end
return { 'ok', #askers }
