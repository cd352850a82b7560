-- Reading on from cursors.

-- Entries of one channel that are fetched at once.
local CHUNK = 20

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
    local found, upto, more = {}, seq, 0
    for index = 1, #cursors, 2 do
        local cursor = tonumber(cursors[index + 1])
        local last, size = cursor, 0
        repeat
            local entries = redis.call('XRANGE', prefix .. 'channel:' .. cursors[index], digits(last + 1), '+', 'COUNT',
                CHUNK)
            if last == cursor and #entries > 0 and tonumber(entries[1][2][2]) > cursor then
                return { 'trimmed', digits(seq), 0 }
            end
            for _, entry in ipairs(entries) do
                last = number_of(entry)
                size = size + #entry[2][8]
                found[#found + 1] = { last, entry[2][6], entry[2][8] }
            end
            -- Whatever is left behind that is beyond the cut below too.
        until #entries < CHUNK or size > limit
    end
    table.sort(found, function(one, other) return one[1] < other[1] end)
    local answer, size = { '', '', 0 }, 0
    for index, entry in ipairs(found) do
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
