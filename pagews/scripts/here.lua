-- The pages of a channel that are attached, wherever: some of them, for one step must not take long.
--
-- ARGV: epoch, channel, where to go on; '0': the beginning.
-- Returns: where to go on, '0' at the end; each page, with session, user or '', and its topics, flat with the number
-- since when.

-- Pages of which one step tells, about.
local MOST = 500

local pages, place = {}, '0'
local ids = { string.match(ARGV[2], '^page:(.*)$') }
if #ids == 0 then
    place, ids = unpack(redis.call('SSCAN', prefix .. 'here:' .. ARGV[2], ARGV[3], 'COUNT', MOST))
end
for _, page in ipairs(ids) do
    local record = record_of(page)
    if record and record.attached then
        pages[#pages + 1] = { page, record.session, record.user or '', topics_of(record) or {} }
    end
end
return { 'ok', place, pages }
