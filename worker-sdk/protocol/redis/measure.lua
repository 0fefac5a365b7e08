-- How a queue stands. Reads only. KEYS: queue, leases, delayed, counters, interrupted. ARGV: the beginning of
-- processing lists' names, the number of the last interruption that is known. Length, in flight, delayed,
-- departed so far, the number of the last interruption, and those after the known one, the newest first.
local inflight = 0
for _, holder in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    inflight = inflight + redis.call('LLEN', ARGV[1] .. holder)
end
local counters = redis.call('HMGET', KEYS[4], 'departed', 'interrupted')
local last, known = tonumber(counters[2] or '0'), tonumber(ARGV[2])
-- Data that was lost begins again at one.
if last < known then known = 0 end
local entries = {}
if last > known then entries = redis.call('LRANGE', KEYS[5], 0, last - known - 1) end
return {redis.call('LLEN', KEYS[1]), inflight, redis.call('ZCARD', KEYS[3]), tonumber(counters[1] or '0'),
    last, entries}
