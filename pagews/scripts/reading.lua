-- Reading on from cursors.

-- Entries of one channel that are fetched at once, at most.
local CHUNK = 20

-- Reads on in a channel, twice as far as the last time. Returns false when what stands there does not follow its cursor.
local function read_on(channel, found)
    -- Up to the head, for what stands above it is not ours.
    local entries = redis.pcall('XRANGE', prefix .. 'channel:' .. channel.name, digits(channel.last + 1), digits(seq),
        'COUNT', channel.count)
    if entries.err then
        return false -- what is there is no channel
    end
    for _, entry in ipairs(entries) do
        local previous, _, deadline, body = parts_of(entry)
        if previous and not channel.is_proven then
            if previous > channel.cursor then
                return false
            end
            channel.is_proven = true
        end
        channel.last = number_of(entry)
        -- One that is not ours has no body, which no node can read.
        found.size = found.size + #(body or '')
        found[#found + 1] = { channel.last, deadline or '', body or '' }
    end
    channel.is_read = #entries < channel.count
    channel.count = math.min(2 * channel.count, CHUNK)
    return true
end

-- What came after the cursors, a flat list of channels each with its number: what is lost or '', up to where, whether
-- there is more, then each number and body.
local function read(cursor_epoch, cursors, limit)
    if cursor_epoch ~= epoch then
        return { 'epoch', digits(seq), 0 }
    end
    for index = 2, #cursors, 2 do
        if tonumber(cursors[index]) > seq then
            return { 'epoch', digits(seq), 0 }
        end
    end
    -- Rule 1: first the watermark; only above it does the chain of predecessors prove anything.
    for index = 2, #cursors, 2 do
        if tonumber(cursors[index]) < watermark then
            return { 'expired', digits(seq), 0 }
        end
    end
    local found, upto, more = { size = 0 }, seq, 0
    local open = {}
    for index = 1, #cursors, 2 do
        local cursor = tonumber(cursors[index + 1])
        local channel = { name = cursors[index], cursor = cursor, last = cursor, count = 1 }
        if not read_on(channel, found) then
            return { 'trimmed', digits(seq), 0 }
        end
        if not channel.is_read then
            open[#open + 1] = channel
        end
    end
    while #open > 0 do
        -- Nothing behind the channel that is read least far can be told (rule 5): that one is read on.
        local least = 1
        for index = 2, #open do
            if open[index].last < open[least].last then
                least = index
            end
        end
        if found.size > limit then
            upto, more = open[least].last, 1
            break
        end
        if not read_on(open[least], found) then
            return { 'trimmed', digits(seq), 0 }
        end
        if open[least].is_read then
            table.remove(open, least)
        end
    end
    table.sort(found, function(one, other) return one[1] < other[1] end)
    local answer, size = { '', '', 0 }, 0
    for index, entry in ipairs(found) do
        if entry[1] > upto then
            break
        end
        size = size + #entry[3]
        if size > limit and index > 1 then
            -- Rule 5: a cut is at one number for all channels.
            upto = found[index - 1][1]
            more = 1
            break
        end
        if entry[2] == '' or tonumber(entry[2]) > now then
            answer[#answer + 1] = digits(entry[1])
            answer[#answer + 1] = entry[3]
        end
    end
    answer[2] = digits(upto)
    answer[3] = more
    return answer
end
