-- Forgets offers at or under a floor, which never falls. KEYS: offers. ARGV: epoch, floor.
-- 1; or 0 under another epoch.
if epoch(KEYS[1]) ~= ARGV[1] then return 0 end
local floor = tonumber(ARGV[2])
if floor <= tonumber(redis.call('HGET', KEYS[1], 'floor')) then return 1 end
redis.call('HSET', KEYS[1], 'floor', ARGV[2])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local id = string.match(field, '^o:(%d+)$')
    if id and tonumber(id) <= floor then redis.call('HDEL', KEYS[1], field) end
end
return 1
