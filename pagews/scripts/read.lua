-- ARGV: epoch, epoch of the cursors, bytes, then each channel with its cursor.
-- Returns: what `read` does.

tick()
local cursors = {}
for index = 4, #ARGV do
    cursors[#cursors + 1] = ARGV[index]
end
return { 'ok', read(ARGV[2], cursors, tonumber(ARGV[3])) }
