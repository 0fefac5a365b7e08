-- Takes the next task, from the first queue that has one. KEYS: for each queue the list, the holder's
-- processing list, attempts. The place of the queue in that order from 0, payload, how often it has failed,
-- its digest; or nothing.
for i = 1, #KEYS, 3 do
    local payload = redis.call('LMOVE', KEYS[i], KEYS[i + 1], 'RIGHT', 'LEFT')
    if payload then
        local digest = redis.sha1hex(payload)
        return {(i - 1) / 3, payload, redis.call('HGET', KEYS[i + 2], digest) or '0', digest}
    end
end
return false
