-- Rule 19: whoever knows another epoch speaks of another log; nothing is done.
if epoch ~= ARGV[1] then
    return { 'epoch' }
end
