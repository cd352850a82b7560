-- The pages of a channel that are attached, wherever. ARGV: epoch, channel.
-- Returns: each as page, session, user or '', and its topics, flat with the number since when.

local pages = {}
local ids = { string.match(ARGV[2], '^page:(.*)$') }
if #ids == 0 then
    ids = redis.call('SMEMBERS', prefix .. 'here:' .. ARGV[2])
end
for _, page in ipairs(ids) do
    local record = record_of(page)
    if record and record.attached then
        pages[#pages + 1] = { page, record.session, record.user or '', topics_of(record) or {} }
    end
end
return { 'ok', pages }
