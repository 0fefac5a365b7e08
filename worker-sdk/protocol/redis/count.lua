-- Whoever counts the interruptions of a queue for a workload says so first, so that none is counted twice,
-- whatever ends in between. KEYS: counted. ARGV: queue, the last that was counted as far as is known, the one
-- up to which to count, a name for who asks. Without a known one it only begins: the one up to which somebody
-- has counted, else the last.
-- The number after which to count; the same again to who asks again.
local last = tonumber(ARGV[3])
local text = redis.call('HGET', KEYS[1], ARGV[1])
local after = tonumber(ARGV[2]) or last
if text then
    local to, from, by = string.match(text, '^(%d+):(%d+):(.*)$')
    after = tonumber(to)
    if ARGV[2] == '' then return after end
    if after == last and by == ARGV[4] then return tonumber(from) end
    if after >= last then return last end
end
redis.call('HSET', KEYS[1], ARGV[1], last .. ':' .. after .. ':' .. ARGV[4])
-- Longer than any interruption is kept.
redis.call('PEXPIRE', KEYS[1], 604800000)
return after
