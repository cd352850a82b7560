-- Rule 21. ARGV: epoch, page, how many topics its token has, those; how many to add, those; then those to remove.
-- Returns: what it listens to, each with the number since when; nothing when the page has ended.

tick()
local page = ARGV[2]
local record = record_of(page)
if has_ended(page, record) then
    return { 'ended' }
end
record = record or new_record(page)
local key = key_of(page)

local at = 3
local function take()
    local list = {}
    for index = at + 1, at + tonumber(ARGV[at]) do
        list[#list + 1] = ARGV[index]
    end
    at = at + 1 + #list
    return list
end

if record.attached then
    each_presence('SREM', page, record)
end
local rendered, added = take(), take()
if not record.learned then
    record.learned = '1'
    for _, topic in ipairs(rendered) do
        record['topic:' .. topic] = '0'
    end
end
for _, topic in ipairs(added) do
    record['topic:' .. topic] = record['topic:' .. topic] or digits(seq)
end
for index = at, #ARGV do
    record['topic:' .. ARGV[index]] = nil
    redis.call('HDEL', key, 'topic:' .. ARGV[index])
end
local flat = { 'learned', '1' }
local topics = topics_of(record)
for index = 1, #topics, 2 do
    flat[#flat + 1] = 'topic:' .. topics[index]
    flat[#flat + 1] = topics[index + 1]
end
redis.call('HSET', key, unpack(flat))
if record.attached then
    each_presence('SADD', page, record)
end
file('page:' .. page, 't', '')
return { 'ok', topics }
