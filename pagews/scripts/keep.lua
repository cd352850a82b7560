-- ARGV: epoch, page. Sees that a page has a record.

tick()
local record = record_of(ARGV[2])
if has_ended(ARGV[2], record) then
    return { 'ended' }
end
if not record then
    new_record(ARGV[2])
end
return { 'ok' }
