-- Shows offers that are absent and above the floor. KEYS: offers. ARGV: epoch, then pairs of offer and
-- state. 1; or 0 under another epoch.
if epoch(KEYS[1]) ~= ARGV[1] then return 0 end
local floor = tonumber(redis.call('HGET', KEYS[1], 'floor'))
for i = 2, #ARGV, 2 do
    if tonumber(ARGV[i]) > floor then redis.call('HSETNX', KEYS[1], 'o:' .. ARGV[i], ARGV[i + 1]) end
end
return 1
