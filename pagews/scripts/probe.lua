-- A node's sign of life, once a second: claims the epoch for this server, lets time pass, ends what is due, lets go of
-- the pages of nodes that died, and publishes the head to the node's own channel (rule 8).
--
-- ARGV: the epoch that the node knows, node, an epoch to claim if need be, '1' when it is the node's first, seconds
-- after which a node counts as dead, and the settings of the log, which the node that started last has set, or the first
-- one in a log that is empty: retention, entries and bytes of a channel, grace, results kept; '1' for a program that serves
-- no pages: it lives on nobody's account, and ends nothing, for it has nobody to tell; '1' from a node that knows that it
-- counted as dead, and has let go of its pages. Without that it stays dead: this may be a probe that the network has
-- held back, whose answer nobody will read; the number of the last page that this node was told of, in that epoch.
-- Returns: epoch, head, watermark, eviction policy, whether the node counted as dead, the pages that it alone is to tell
-- of, and whether there may be more of these. They are told again until it says that it has them, for the answer may be
-- lost: each as its number, 'gone' or 'detached', page, session and user or ''.

-- Pages that end, and pages of dead nodes, in one probe.
local MOST = 200

local node, lease = ARGV[2], tonumber(ARGV[5])

-- The retention grows by so many seconds. What was filed until now still goes with the one before, and so the watermark
-- passes it as if nothing had changed.
local function age_ticks(seconds)
    seq = seq + 1
    redis.call('ZADD', prefix .. 'ticks', string.format('%.6f', now), digits(seq))
    for _, number in ipairs(redis.call('ZRANGE', prefix .. 'ticks', 0, -1)) do
        redis.call('ZINCRBY', prefix .. 'ticks', string.format('%.6f', -seconds), number)
    end
    save_seq()
end

-- Rules 4 and 18: another server, or one that evicts, has another log, however much it looks like the one before.
local server = redis.call('INFO', 'server')
local run_id = string.match(server, 'run_id:(%w+)')
local evicted = string.match(redis.call('INFO', 'stats'), 'evicted_keys:(%d+)')
local policy = string.match(redis.call('INFO', 'memory'), 'maxmemory_policy:([%w-]+)')
local known = redis.call('HMGET', KEYS[1], 'run_id', 'evicted', 'probed')
-- The count begins anew at 0 when somebody resets the statistics, which evicts nothing.
local has_evicted = known[2] ~= evicted and evicted ~= '0'
if not epoch or known[1] ~= run_id or has_evicted then
    epoch = ARGV[3]
    -- When the hash of the log is all that was lost, channels stand with its numbers: none of them may come again. Nobody
    -- files as many entries as there are microseconds.
    seq = math.max(seq + 1, math.floor(now * 1000000))
    watermark = seq
    ticked = now
    redis.call('DEL', prefix .. 'ticks')
    redis.call('HSET', KEYS[1], 'epoch', epoch, 'run_id', run_id, 'evicted', evicted, 'seq', digits(seq), 'watermark',
        digits(watermark), 'ticked', string.format('%.6f', ticked), 'untold', 0)
elseif known[2] ~= evicted then
    redis.call('HSET', KEYS[1], 'evicted', evicted)
end
tick()
if ARGV[4] == '1' or not fields[6] then
    if fields[6] and tonumber(ARGV[6]) > retention then
        age_ticks(tonumber(ARGV[6]) - retention)
    end
    retention, channel_entries, channel_bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
    grace, results_kept = tonumber(ARGV[9]), tonumber(ARGV[10])
    redis.call('HSET', KEYS[1], 'retention', ARGV[6], 'entries', ARGV[7], 'bytes', ARGV[8], 'grace', ARGV[9],
        'results', ARGV[10])
end

if ARGV[11] == '1' then
    redis.call('PUBLISH', prefix .. 'node:' .. node, 'position ' .. epoch .. ' ' .. digits(seq))
    return { epoch, digits(seq), digits(watermark), policy, 0, {}, 0 }
end

-- While nobody has probed it was the server that was away, and no node: that counts as a second, which is a turn.
local silence = now - tonumber(known[3] or now) - 1
if silence > 0 then
    for _, other in ipairs(redis.call('ZRANGE', prefix .. 'alive', 0, -1)) do
        redis.call('ZINCRBY', prefix .. 'alive', string.format('%.6f', silence), other)
    end
end
local seen = redis.call('ZSCORE', prefix .. 'alive', node)
local counted_as_dead = ARGV[1] == epoch and (not seen or seen == '-inf') and ARGV[12] ~= '1'
if not counted_as_dead then
    redis.call('ZADD', prefix .. 'alive', string.format('%.6f', now), node)
end
redis.call('HSET', KEYS[1], 'probed', string.format('%.6f', now))

local untold = prefix .. 'untold:' .. node
local taken = ARGV[1] == epoch and tonumber(ARGV[13]) or 0
local first = redis.call('LINDEX', untold, 0)
while first and tonumber(string.match(first, '^%d+')) <= taken do
    redis.call('LPOP', untold)
    first = redis.call('LINDEX', untold, 0)
end

local function tell(kind, page, record)
    local number = redis.call('HINCRBY', KEYS[1], 'untold', 1)
    redis.call('RPUSH', untold, number .. ' ' .. kind .. ' ' .. page .. ' ' .. record.session .. ' ' .. (record.user or ''))
    redis.call('PEXPIRE', untold, milliseconds(retention + SAFETY))
end

local more = 0
for _, dead in ipairs(redis.call('ZRANGEBYSCORE', prefix .. 'alive', '-inf', string.format('%.6f', now - lease))) do
    -- Should it come back before all its pages are let go, it must know.
    redis.call('ZADD', prefix .. 'alive', '-inf', dead)
    local pages = redis.call('SPOP', prefix .. 'pages:' .. dead, MOST)
    if #pages == MOST then
        more = 1
    end
    for _, page in ipairs(pages) do
        local record = record_of(page)
        if record and record.attached and record.node == dead then
            let_go(page, record)
            tell('detached', page, record)
        end
    end
    if redis.call('EXISTS', prefix .. 'pages:' .. dead) == 0 then
        redis.call('ZREM', prefix .. 'alive', dead)
    end
end

local due = redis.call('ZRANGEBYSCORE', prefix .. 'due', '-inf', string.format('%.6f', now), 'LIMIT', 0, MOST)
if #due == MOST then
    more = 1
end
for _, page in ipairs(due) do
    redis.call('ZREM', prefix .. 'due', page)
    local record = record_of(page)
    if record and not record.attached then
        -- Rule 6: a record outlives every cursor of its page, which would else resume without its topics.
        local may_resume, was_gone = watermark <= tonumber(record.head), record.gone
        if (not may_resume or record.left) and finish(page, record) then
            tell('gone', page, record)
        end
        if may_resume then
            expect(page, math.max(was_gone and 0 or retention + RECORD_MARGIN - grace, RECORD_RETRY))
        else
            redis.call('DEL', unpack(keys_of(page)))
        end
    end
end

redis.call('PUBLISH', prefix .. 'node:' .. node, 'position ' .. epoch .. ' ' .. digits(seq))
return { epoch, digits(seq), digits(watermark), policy, counted_as_dead and 1 or 0, redis.call('LRANGE', untold, 0, -1), more }
