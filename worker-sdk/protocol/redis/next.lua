-- Put before take.lua, turn.lua and fence.lua. A turn is one step by which a slot of a holder takes a task.
-- The number of each slot's last turn is kept, under zero when it was given up, so that the holder can find
-- out whether a turn whose answer was lost was done, and none is done late.
local function last_turn(turns, slot) return tonumber(redis.call('HGET', turns, slot) or '0') end
local function is_over(turns, slot, number)
    return math.abs(last_turn(turns, slot)) >= tonumber(number)
end
local function keep(turns, slot, number)
    redis.call('HSET', turns, slot, number)
    -- Should the holder die, its turns go with time. From the last one on: that one may be asked for.
    redis.call('PEXPIRE', turns, 86400000)
end

-- Moves the next task, from the first queue that has one; the keys from `first` on are for each queue its
-- list, the holder's processing list, attempts.
local function next_task(first)
    for i = first, #KEYS, 3 do
        local payload = redis.call('LMOVE', KEYS[i], KEYS[i + 1], 'RIGHT', 'LEFT')
        if payload then
            local digest = redis.sha1hex(payload)
            return {(i - first) / 3, payload, redis.call('HGET', KEYS[i + 2], digest) or '0', digest}
        end
    end
    return false
end
