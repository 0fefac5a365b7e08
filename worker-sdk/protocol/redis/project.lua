-- Shows offers that are absent and above the floor. KEYS: offers. ARGV: epoch, then pairs of offer and
-- state; who listens to the channel of that key's name is told of new ones. 1; or 0 under another epoch.
if epoch(KEYS[1]) ~= ARGV[1] then return 0 end
local floor = tonumber(redis.call('HGET', KEYS[1], 'floor'))
local new = 0
for i = 2, #ARGV, 2 do
    if tonumber(ARGV[i]) > floor then new = new + redis.call('HSETNX', KEYS[1], 'o:' .. ARGV[i], ARGV[i + 1]) end
end
-- A user without rights to the channel may project all the same: workers look by themselves, too.
if new > 0 then redis.pcall('PUBLISH', KEYS[1], new) end
return 1
