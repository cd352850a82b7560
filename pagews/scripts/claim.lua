-- Rule 25. ARGV: epoch, node, page, document, number of the send, '1' to claim it, seconds after which a node counts as
-- dead, the epoch of its page when it came or '', what tells the caller's call from others.
-- Returns: 'free' (claimed now, if asked), 'known', 'running' (elsewhere, by a node that lives), or 'done' with the
-- result; then how many results it has cost.

tick()
local node, page, id = ARGV[2], ARGV[3], tonumber(ARGV[5])
local record = record_of(page)
-- Its claim may have been lost with the log in which it came.
local is_foreign = ARGV[8] ~= '' and ARGV[8] ~= epoch
if is_foreign or not record or record.document ~= ARGV[4] or id < tonumber(record.low or 0) then
    return { 'ok', 'known', '', 0 }
end
local key = prefix .. 'sends:' .. page
local value = redis.call('HGET', key, digits(id))
if value and string.sub(value, 1, 1) == '=' then
    return { 'ok', 'done', string.sub(value, 2), 0 }
end
local claim = '!' .. node .. '/' .. ARGV[9]
if value and string.match(value, '^%S+') == claim then
    -- It was claimed by this very call, whose answer was lost.
    return { 'ok', 'free', '', 0 }
end
if value then
    local runner = runner_of(value)
    local seen = runner and runner ~= node and redis.call('ZSCORE', prefix .. 'alive', runner)
    -- While nobody has probed, time has passed for no node, as in a probe.
    local probed = tonumber(redis.call('HGET', KEYS[1], 'probed') or now)
    if not seen or tonumber(seen) <= math.min(now, probed + 1) - tonumber(ARGV[7]) then
        return { 'ok', 'known', '', 0 }
    end
    -- A post that asks need not have reached the node that has the page.
    if not string.find(value, ' ' .. node, 1, true) then
        redis.call('HSET', key, digits(id), value .. ' ' .. node)
    end
    return { 'ok', 'running', '', 0 }
end
local cost = 0
if ARGV[6] == '1' then
    if redis.call('HLEN', key) >= results_kept + 2 then
        cost = forget_oldest(page)
    end
    redis.call('HSET', key, digits(id), claim)
    expire_with_record(page, key)
    redis.call('HSET', key, 'top', digits(math.max(id, tonumber(redis.call('HGET', key, 'top') or 0))))
end
return { 'ok', 'free', '', cost }
