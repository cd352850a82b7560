-- The page is gone now. ARGV: epoch, page, '1' from a program that serves no pages: then a process that does is told.
-- Returns: its session and its user or '', if it was once attached and the caller is to tell.

tick()
local page = ARGV[2]
local record = record_of(page)
if not record then
    return { 'ok' }
end
local told = finish(page, record)
if record.attached then
    each_presence('SREM', page, record)
    redis.call('HDEL', key_of(page), 'attached')
end
-- Its document may not know, and resume: the record must outlive that, as after a goodbye.
redis.call('HSET', key_of(page), 'head', digits(seq))
if record.document then
    redis.call('HSET', key_of(page), 'left', '1')
end
expect(page, retention + RECORD_MARGIN)
if told and ARGV[3] == '1' then
    local alive = prefix .. 'alive'
    local teller = redis.call('ZSCORE', alive, record.node) and record.node or redis.call('ZRANGE', alive, -1, -1)[1]
    if teller then
        local user = string.gsub(record.user or '', '.', function(char)
            return string.format('%02x', string.byte(char))
        end)
        redis.call('PUBLISH', prefix .. 'node:' .. teller, 'gone ' .. page .. ' ' .. record.session .. ' ' .. user)
    end
elseif told then
    return { 'ok', record.session, record.user or '' }
end
return { 'ok' }
