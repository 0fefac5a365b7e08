-- A task is done. KEYS: the holder's processing list, counters, attempts. ARGV: payload.
-- 1; or 0 when the holder does not hold it any more: then it may run twice.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[2], 'departed', 1)
redis.call('HDEL', KEYS[3], redis.sha1hex(ARGV[1]))
return 1
