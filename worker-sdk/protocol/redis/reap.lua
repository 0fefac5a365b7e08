-- Takes tasks from holders that have given no sign, and brings back those whose delay is over.
-- KEYS: leases, queue, attempts, delayed, counters, dead, errors of the dead, interrupted.
-- ARGV: the beginning of processing lists' names, the most attempts, and from a worker that has just started
-- its own name and milliseconds: what it holds is of the life before, and is taken from it, too, to be taken by
-- somebody after so long. A task that takes its worker down would take down one after the other before anybody
-- could give them more memory.
-- How many tasks went back to the queue.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local back = 0
local function take_from(holder, delay)
    local list = ARGV[1] .. holder
    local payloads = redis.call('LRANGE', list, 0, -1)
    if #payloads == 0 then return end
    for _, payload in ipairs(payloads) do
        local digest = redis.sha1hex(payload)
        local attempts = redis.call('HINCRBY', KEYS[3], digest, 1)
        if attempts >= tonumber(ARGV[2]) then
            redis.call('LPUSH', KEYS[6], payload)
            redis.call('LPUSH', KEYS[7], cjson.encode({
                error = 'its worker gave no sign of life on each attempt', attempts = attempts, at = now}))
            redis.call('HINCRBY', KEYS[5], 'departed', 1)
            redis.call('HDEL', KEYS[3], digest)
        elseif delay then
            local number = redis.call('HINCRBY', KEYS[5], 'number', 1)
            redis.call('ZADD', KEYS[4], now + delay, number .. ':' .. payload)
        else
            redis.call('RPUSH', KEYS[2], payload)
            back = back + 1
        end
    end
    redis.call('DEL', list)
    write_down(KEYS[8], KEYS[5], 'lost', #payloads, holder)
end
if ARGV[3] then take_from(ARGV[3], tonumber(ARGV[4])) end
-- A score under zero says when a holder was given up. It stays for a while: should it still live, and a
-- task come to it late, the next look finds it.
for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    local score = tonumber(redis.call('ZSCORE', KEYS[1], holder))
    take_from(holder)
    if score >= 0 then
        redis.call('ZADD', KEYS[1], -now, holder)
    elseif -score < now - 600000 then
        redis.call('ZREM', KEYS[1], holder)
    end
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now)) do
    redis.call('ZREM', KEYS[4], member)
    redis.call('RPUSH', KEYS[2], string.sub(member, string.find(member, ':', 1, true) + 1))
    back = back + 1
end
return back
