-- ARGV: epoch, page. Returns: nothing when there is no record; else document or '', attempt, how often it has come,
-- '1' when it has left, '1' when it is gone, '1' when it has topics of its own, and those.

local record = record_of(ARGV[2])
if not record then
    return { 'ok' }
end
return { 'ok', { record.document or '', record.attempt or '0', record.again or '0', record.left or '', record.gone or '',
    record.learned or '', topics_of(record) or {} } }
