-- The page is gone now. ARGV: epoch, page. Returns: its session and its user or '', if it was once attached.

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
if told then
    return { 'ok', record.session, record.user or '' }
end
return { 'ok' }
