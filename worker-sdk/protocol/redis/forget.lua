-- Deletes what a worker reported. KEYS: reports, released. ARGV: worker.
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('SREM', KEYS[2], ARGV[1])
return 1
