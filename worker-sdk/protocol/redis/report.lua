-- Stores a worker's report with the path's epoch and answers. KEYS: offers, reports, released.
-- ARGV: worker, report as JSON. Epoch ('' none), whether an offer names it, whether one is open to
-- anybody, its claim (-1 none), whether it is released or was already drained: then it takes nothing, and
-- only another drained report takes the place of that one.
local now = redis.call('TIME')
local at = now[1] * 1000 + math.floor(now[2] / 1000)
local known = epoch(KEYS[1]) or ''
local function is_drained(report) return report and cjson.decode(report).state == 'drained' end
local before = redis.call('HGET', KEYS[2], ARGV[1])
local drained = is_drained(before and string.match(before, '^%d+:%w*:(.*)$'))
if not drained or is_drained(ARGV[2]) then
    redis.call('HSET', KEYS[2], ARGV[1], at .. ':' .. known .. ':' .. ARGV[2])
end
local released = drained and 1 or redis.call('SISMEMBER', KEYS[3], ARGV[1])
if known == '' then return {'', 0, 0, -1, released} end
local claim, named, anybody = offers_for(KEYS[1], ARGV[1])
return {known, named and 1 or 0, anybody and 1 or 0, claim or -1, released}
