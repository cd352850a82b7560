-- The qos 2 sends of a page's document: a hash with each number; '!', the node that runs it, '/', which of its calls has
-- claimed it, and the others that wait for it; or '=' and its result.

local function runner_of(value)
    return value and string.match(value, '^!(%w+)')
end

-- Forget the oldest tenth of the claims of a page; returns how many results that has cost.
local function forget_oldest(page)
    local key = prefix .. 'sends:' .. page
    local ids = {}
    for _, field in ipairs(redis.call('HKEYS', key)) do
        ids[#ids + 1] = tonumber(field)
    end
    table.sort(ids)
    local results, size = 0, 0
    local last = math.max(1, math.floor(#ids / 10))
    if #ids < 2 then
        return 0
    end
    for index = 1, last do
        local value = redis.call('HGET', key, digits(ids[index]))
        if string.sub(value, 1, 1) == '=' then
            results = results + 1
            size = size + #value
        end
        redis.call('HDEL', key, digits(ids[index]))
    end
    redis.call('HINCRBY', key, 'size', -size)
    redis.call('HSET', key_of(page), 'low', digits(ids[last] + 1))
    return results
end
