-- A task goes back to its queue. KEYS: the holder's processing list, queue, attempts, delayed, counters,
-- interrupted. ARGV: payload, delay in milliseconds, 1 when the attempt counts against the task; when it does
-- not, nobody has failed it and its holder had to end, holder.
-- 1; or 0 when the holder does not hold it any more.
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
if ARGV[3] == '1' then
    redis.call('HINCRBY', KEYS[3], redis.sha1hex(ARGV[1]), 1)
else
    write_down(KEYS[6], KEYS[5], 'grace', 1, ARGV[4])
end
if tonumber(ARGV[2]) > 0 then
    local time = redis.call('TIME')
    local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
    -- A number in front keeps two equal payloads apart.
    local number = redis.call('HINCRBY', KEYS[5], 'number', 1)
    redis.call('ZADD', KEYS[4], due, number .. ':' .. ARGV[1])
else
    -- To the end that is taken from next: it has waited its turn.
    redis.call('RPUSH', KEYS[2], ARGV[1])
end
return 1
