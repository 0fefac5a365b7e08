-- A task is done and its holder takes the next. KEYS: the holder's turns; its processing list, counters and
-- attempts of the task that is done; then for each queue as take.lua. ARGV: slot, the turn's number, payload,
-- its digest when it has failed before, else ''.
-- 1, or 0 when the holder did not hold it any more, or -1 when that turn was given up; and the next task as
-- take.lua gives it.
if is_over(KEYS[1], ARGV[1], ARGV[2]) then return {-1, false} end
keep(KEYS[1], ARGV[1], ARGV[2])
local kept = redis.call('LREM', KEYS[2], 1, ARGV[3])
if kept == 1 then
    redis.call('HINCRBY', KEYS[3], 'departed', 1)
    if ARGV[4] ~= '' then redis.call('HDEL', KEYS[4], ARGV[4]) end
end
return {kept, next_task(5)}
