-- Begins an epoch. KEYS: offers. ARGV: the epoch that was seen ('' none), the new one, floor, then pairs
-- of offer and worker: the claims that are known. 1; or 0 when the path is in another epoch by now.
if (epoch(KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'server', server(), 'floor', ARGV[3])
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], 'o:' .. ARGV[i], 'claimed:' .. ARGV[i + 1]) end
return 1
