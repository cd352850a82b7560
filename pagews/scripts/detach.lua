-- Compare and let go (rule 16). ARGV: epoch, page, document, attempt, how often it has come, '1' when it said goodbye,
-- the node that must have it or ''.

tick()
local page = ARGV[2]
local record = record_of(page)
if not record or record.document ~= ARGV[3] or record.attempt ~= ARGV[4] or (record.again or '0') ~= ARGV[5] then
    return { 'ok' }
end
if ARGV[7] ~= '' and record.node ~= ARGV[7] then
    return { 'ok' }
end
if ARGV[6] == '1' then
    record.left = '1'
    redis.call('HSET', key_of(page), 'left', '1')
end
let_go(page, record)
return { 'ok' }
