-- A holder that holds nothing leaves. KEYS: leases, its processing list, its turns. ARGV: holder.
if redis.call('EXISTS', KEYS[2]) == 0 then redis.call('ZREM', KEYS[1], ARGV[1]) end
-- Not at once: a turn that was given up and comes late would be done, for a holder that is no more.
redis.call('PEXPIRE', KEYS[3], 600000)
return 1
