-- The record of a page: a hash, with what it listens to as fields "topic:<name>" once it has `learned` them.

-- Seconds after which a record is looked at again whose page could still resume, because ticks have come late.
local RECORD_RETRY = 1
-- Seconds from when it is due on, after which what is kept of a page goes though no node is there to end it: long after
-- the watermark has passed its last cursor (rule 6), and nodes that stood still have come back.
local ABANDONED = 86400

local function key_of(page)
    return prefix .. 'page:' .. page
end

-- Fields that must be whole numbers where they are.
local NUMBERS = { attempt = true, again = true, head = true, low = true, size = true }

local function is_record(record)
    for field, value in pairs(record) do
        if (NUMBERS[field] or string.sub(field, 1, 6) == 'topic:') and not whole(value) then
            return false
        end
    end
    local was_attached = record.session and record.document and record.attempt and record.node
    return (was_attached or not (record.document or record.attached)) and (record.attached or record.head)
end

-- What no script of ours can have written is no record, and goes.
local function record_of(page)
    local flat = redis.pcall('HGETALL', key_of(page))
    local record = {}
    for index = 1, #flat, 2 do
        record[flat[index]] = flat[index + 1]
    end
    if is_record(record) then
        return record
    end
    if flat.err or #flat > 0 then
        redis.call('DEL', key_of(page))
    end
    return nil
end

-- The topics of a record with the number since when, as a flat list; nil while those of its token are all.
local function topics_of(record)
    if not record.learned then
        return nil
    end
    local topics = {}
    for field, value in pairs(record) do
        local name = string.match(field, '^topic:(.*)$')
        if name then
            topics[#topics + 1] = name
            topics[#topics + 1] = value
        end
    end
    return topics
end

-- All that is kept of a page and for nobody else: its record, its variables, and its sends.
local function keys_of(page)
    return { key_of(page), prefix .. 'variables:' .. page, prefix .. 'sends:' .. page }
end

local function expect(page, seconds)
    redis.call('ZADD', prefix .. 'due', string.format('%.6f', now + seconds), page)
    for _, key in ipairs(keys_of(page)) do
        redis.call('PEXPIRE', key, milliseconds(seconds + ABANDONED))
    end
end

-- What has been kept of a page just now goes with its record.
local function expire_with_record(page, key)
    local rest = redis.call('PTTL', key_of(page))
    if rest > 0 then
        redis.call('PEXPIRE', key, rest)
    end
end

-- The record of a page that has only been rendered: it ends as that of one that was detached now.
local function new_record(page)
    redis.call('HSET', key_of(page), 'head', digits(seq))
    expect(page, retention + RECORD_MARGIN)
    return { head = digits(seq) }
end

local function has_ended(page, record)
    return (record and record.gone) or redis.call('EXISTS', prefix .. 'gone:' .. page) == 1
end

-- Who is attached: the pages by channel, and by node.
local function each_presence(command, page, record)
    redis.call(command, prefix .. 'here:session:' .. record.session, page)
    if record.user then
        redis.call(command, prefix .. 'here:user:' .. record.user, page)
    end
    local topics = topics_of(record) or {}
    for index = 1, #topics, 2 do
        redis.call(command, prefix .. 'here:topic:' .. topics[index], page)
    end
    redis.call(command, prefix .. 'pages:' .. record.node, page)
end

-- Its socket has ended.
local function let_go(page, record)
    each_presence('SREM', page, record)
    record.attached = nil
    redis.call('HDEL', key_of(page), 'attached')
    redis.call('HSET', key_of(page), 'head', digits(seq))
    -- One that has ended has nothing more to end: its record waits for its last cursor alone.
    expect(page, record.left and not record.gone and grace or retention + RECORD_MARGIN)
end

-- Nobody will ask for the results of its document any more: what was claimed stays so, without them.
local function forget_results(page, record)
    local top = redis.call('HGET', prefix .. 'sends:' .. page, 'top')
    if top then
        record.low = digits(tonumber(top) + 1)
        redis.call('HSET', key_of(page), 'low', record.low)
        redis.call('DEL', prefix .. 'sends:' .. page)
    end
end

-- The page is gone, which every node is told; true when it was once attached, and this is the first to find out.
local function finish(page, record)
    if record.gone then
        return false
    end
    record.gone = '1'
    redis.call('HSET', key_of(page), 'gone', '1')
    redis.call('HDEL', key_of(page), 'size')
    redis.call('DEL', prefix .. 'variables:' .. page)
    forget_results(page, record)
    redis.call('SET', prefix .. 'gone:' .. page, '1', 'PX', milliseconds(retention))
    redis.call('PUBLISH', prefix .. 'nodes', 'ended ' .. page)
    return record.document ~= nil
end
