-- A task has failed for good. KEYS: the holder's processing list, dead, errors of the dead, counters,
-- attempts. ARGV: payload, why as JSON. 1; or 0 when the holder does not hold it any more.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[1])
redis.call('LPUSH', KEYS[3], ARGV[2])
redis.call('HINCRBY', KEYS[4], 'departed', 1)
redis.call('HDEL', KEYS[5], redis.sha1hex(ARGV[1]))
return 1
