-- Put before reap.lua and return.lua: writes down that a holder's work on tasks was cut off. `why` is `lost`
-- when it gave no sign of life, `grace` when it had to end. An entry is `NUMBER:WHY:TASKS:HOLDER`, the newest
-- first; the last thousand are kept, for a day after the newest.
local function write_down(entries, counters, why, tasks, holder)
    local number = redis.call('HINCRBY', counters, 'interrupted', 1)
    redis.call('LPUSH', entries, number .. ':' .. why .. ':' .. tasks .. ':' .. holder)
    redis.call('LTRIM', entries, 0, 999)
    redis.call('PEXPIRE', entries, 86400000)
end
