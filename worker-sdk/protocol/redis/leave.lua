-- A holder that holds nothing leaves. KEYS: leases, its processing list, its turns. ARGV: holder.
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
redis.call('DEL', KEYS[3])
return 1
