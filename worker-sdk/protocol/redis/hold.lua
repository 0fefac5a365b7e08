-- A holder keeps what it holds for another while; it must hold before it fetches. KEYS: leases of each queue.
-- ARGV: holder, milliseconds. 1; or 0 when it was given up before: what it held then is others' now.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local kept = 1
for _, leases in ipairs(KEYS) do
    local before = redis.call('ZSCORE', leases, ARGV[1])
    redis.call('ZADD', leases, now + ARGV[2], ARGV[1])
    if before and tonumber(before) < 0 then kept = 0 end
end
return kept
