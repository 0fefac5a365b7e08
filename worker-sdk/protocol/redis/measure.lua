-- How a queue stands. Reads only. KEYS: queue, leases, delayed, counters, interrupted. ARGV: the beginning of
-- processing lists' names, the number of the last interruption that is known. Length, in flight, delayed,
-- departed so far, the number of the last interruption, and those after the known one, the newest first. A task
-- whose delay is over counts as one that waits: where no worker is left to bring it back, one is to be started.
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
local time = redis.call('TIME')
local due = redis.call('ZCOUNT', KEYS[3], '-inf', time[1] * 1000 + math.floor(time[2] / 1000))
return {redis.call('LLEN', KEYS[1]) + due, inflight, redis.call('ZCARD', KEYS[3]) - due,
    tonumber(counters[1] or '0'), last, entries}
