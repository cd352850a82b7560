-- What every script begins with: the head of the log, its clock, and filing.
--
-- KEYS[1]: the hash of the log, "<prefix>log"; all other keys begin with its prefix.
-- ARGV[1]: the epoch that the caller knows (rule 19).

local prefix = string.sub(KEYS[1], 1, -4)
local fields = redis.call('HMGET', KEYS[1], 'epoch', 'seq', 'watermark', 'ticked', 'offset',
    'retention', 'entries', 'bytes', 'grace', 'results')
local epoch = fields[1]
local seq = tonumber(fields[2] or 0)
local watermark = tonumber(fields[3] or 0)
local ticked = tonumber(fields[4] or 0)
local offset = tonumber(fields[5] or 0)
local retention = tonumber(fields[6] or 0)
local channel_entries = tonumber(fields[7] or 0)
local channel_bytes = tonumber(fields[8] or 0)
local grace = tonumber(fields[9] or 0)
local results_kept = tonumber(fields[10] or 0)

-- Seconds from the retention on in which the last cursor of a page ends: two ticks.
local RECORD_MARGIN = 2
-- Seconds after which a key goes that nothing has taken before: long after the watermark has passed it (rule 3).
local SAFETY = 60

local function digits(number)
    return string.format('%.0f', number)
end

local function milliseconds(seconds)
    return digits(math.max(seconds, 0.001) * 1000)
end

local function read_clock()
    local time = redis.call('TIME')
    local now = tonumber(time[1]) + tonumber(time[2]) / 1000000 + offset
    if now < ticked then
        -- The wall clock was set back: the log's stands still instead.
        offset = offset + ticked - now
        now = ticked
        redis.call('HSET', KEYS[1], 'offset', string.format('%.6f', offset))
    end
    return now
end

local now = read_clock()

local function save_seq()
    redis.call('HSET', KEYS[1], 'seq', digits(seq))
end

-- Time takes a number (rule 6), at most once a second, and age raises the watermark (rule 3). Whatever numbers or reads
-- begins with it: so every number below a tick was given within a second of the tick before, however long nobody came.
local function tick()
    if now - ticked < 1 then
        return
    end
    seq = seq + 1
    redis.call('ZADD', prefix .. 'ticks', string.format('%.6f', math.min(now, ticked + 1)), digits(seq))
    local old = redis.call('ZREVRANGEBYSCORE', prefix .. 'ticks', string.format('%.6f', now - retention), '-inf',
        'LIMIT', 0, 1)[1]
    if old then
        watermark = math.max(watermark, tonumber(old))
        redis.call('ZREMRANGEBYSCORE', prefix .. 'ticks', '-inf', string.format('%.6f', now - retention))
    end
    ticked = now
    redis.call('HSET', KEYS[1], 'seq', digits(seq), 'watermark', digits(watermark), 'ticked',
        string.format('%.6f', ticked))
end

-- An entry: its predecessor, all bytes ever filed on the channel up to it, its deadline, its body.
local function number_of(entry)
    return tonumber(string.match(entry[1], '^%d+'))
end

local function whole(text)
    return string.match(text or '', '^%d+$') and tonumber(text)
end

-- Those four of an entry that `file` has made; nothing of any other.
local function parts_of(entry)
    local parts = entry[2]
    local previous, total = whole(parts[2]), whole(parts[4])
    if previous and total and parts[5] == 'd' and (parts[6] == '' or tonumber(parts[6])) and parts[7] == 'b' then
        return previous, total, parts[6], parts[8]
    end
end

local function trim_bytes(key, total)
    while true do
        local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 2)
        -- Rule 2: the last entry of a channel always stays.
        if #first < 2 then
            return
        end
        local _, upto, _, body = parts_of(first[1])
        if upto and total - upto + #body <= channel_bytes then
            return
        end
        redis.call('XTRIM', key, 'MINID', first[2][1])
    end
end

-- Number, file and publish in one step; returns the number.
local function file(channel, body, deadline)
    local key = prefix .. 'channel:' .. channel
    local previous, total = 0, 0
    local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    if last then
        local _, upto = parts_of(last)
        previous, total = number_of(last), upto or 0
    end
    seq = seq + 1
    if previous >= seq then
        -- None of ours is above the head. What goes with it is found missing by whoever reads on.
        redis.call('DEL', key)
        previous = seq - 1
    end
    total = total + #body
    redis.call('XADD', key, 'MAXLEN', '=', digits(channel_entries), digits(seq) .. '-0', 'p', digits(previous), 'c',
        digits(total), 'd', deadline, 'b', body)
    redis.call('XTRIM', key, 'MINID', digits(watermark + 1))
    if total > channel_bytes then
        trim_bytes(key, total)
    end
    redis.call('PEXPIRE', key, milliseconds(retention + SAFETY))
    save_seq()
    redis.call('PUBLISH', prefix .. channel, epoch .. ' ' .. digits(seq) .. ' ' .. digits(previous) .. ' ' .. body)
    return seq
end
