-- How a queue stands. Reads only. KEYS: queue, leases, delayed, counters. ARGV: the beginning of
-- processing lists' names. Length, in flight, delayed, departed so far.
local inflight = 0
for _, holder in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    inflight = inflight + redis.call('LLEN', ARGV[1] .. holder)
end
local departed = redis.call('HGET', KEYS[4], 'departed') or '0'
return {redis.call('LLEN', KEYS[1]), inflight, redis.call('ZCARD', KEYS[3]), tonumber(departed)}
