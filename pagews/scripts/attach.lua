-- Rule 11, in one step: claim the page, look up revocation, read its record and what came after its cursor.
--
-- ARGV: epoch, node, page, session, user or '', document, attempt, epoch and number of the cursor, bytes to read, when
-- the session or login began in wall-clock seconds, then each topic of the token with the number since when.
-- Returns: 'granted', 'superseded', 'forked' or 'revoked'; for granted also how often the same attempt has come, the
-- topics, and what `read` returns.

tick()
local node, page, session, user, document = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local attempt = tonumber(ARGV[7])
local record = record_of(page)

local function is_revoked()
    if redis.call('EXISTS', prefix .. 'revoked:session:' .. session) == 1 then
        return true
    end
    local ended = user ~= '' and redis.call('GET', prefix .. 'revoked:user:' .. user)
    return ended and tonumber(ARGV[11]) <= tonumber(ended)
end

if is_revoked() then
    return { 'ok', 'revoked' }
end

-- Rules 16 and 17.
if record and record.document then
    if record.document ~= document and not record.left then
        return { 'ok', 'forked' }
    end
    if record.document == document and attempt < tonumber(record.attempt) then
        return { 'ok', 'superseded' }
    end
end

local again = 0
if not record then
    record = {}
elseif record.document == document then
    if attempt == tonumber(record.attempt) then
        again = tonumber(record.again or 0) + 1
    end
else
    redis.call('DEL', prefix .. 'sends:' .. page)
    record.low = nil
    if record.gone and record.learned then
        for field in pairs(record) do
            if string.sub(field, 1, 6) == 'topic:' then
                record[field] = nil
            end
        end
        record.learned = nil
    end
    redis.call('DEL', key_of(page))
end
if record.attached then
    each_presence('SREM', page, record)
    if record.node ~= node then
        redis.call('PUBLISH', prefix .. 'node:' .. record.node,
            'superseded ' .. page .. ' ' .. record.document .. ' ' .. record.attempt .. ' ' .. (record.again or 0))
    end
end
if not record.learned then
    record.learned = '1'
    for index = 12, #ARGV, 2 do
        record['topic:' .. ARGV[index]] = ARGV[index + 1]
    end
end
record.session, record.user, record.document = session, user ~= '' and user or nil, document
record.attempt, record.again, record.node, record.attached = ARGV[7], digits(again), node, '1'
record.left, record.gone = nil, nil
local flat = {}
for field, value in pairs(record) do
    flat[#flat + 1] = field
    flat[#flat + 1] = value
end
redis.call('HDEL', key_of(page), 'left', 'gone', 'user')
redis.call('HSET', key_of(page), unpack(flat))
for _, key in ipairs(keys_of(page)) do
    redis.call('PERSIST', key)
end
redis.call('DEL', prefix .. 'gone:' .. page)
redis.call('ZREM', prefix .. 'due', page)
each_presence('SADD', page, record)
-- A node that counts as dead, and does not know yet: were it to die now, nobody would let go of this page.
redis.call('ZADD', prefix .. 'alive', 'NX', '-inf', node)

local topics = topics_of(record)
local from = tonumber(ARGV[9])
local cursors = { 'page:' .. page, ARGV[9], 'session:' .. session, ARGV[9] }
if user ~= '' then
    cursors[#cursors + 1] = 'user:' .. user
    cursors[#cursors + 1] = ARGV[9]
end
for index = 1, #topics, 2 do
    cursors[#cursors + 1] = 'topic:' .. topics[index]
    cursors[#cursors + 1] = digits(math.max(from, tonumber(topics[index + 1])))
end
return { 'ok', 'granted', again, topics, read(ARGV[8], cursors, tonumber(ARGV[10])) }
