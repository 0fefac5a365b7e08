-- Takes an offer back, also where it was not written yet. KEYS: offers. ARGV: epoch, offer.
-- Its state afterwards; or '' under another epoch, or at or under the floor.
if epoch(KEYS[1]) ~= ARGV[1] or tonumber(ARGV[2]) <= tonumber(redis.call('HGET', KEYS[1], 'floor')) then return '' end
local field = 'o:' .. ARGV[2]
local state = redis.call('HGET', KEYS[1], field)
if state and string.sub(state, 1, 8) == 'claimed:' then return state end
redis.call('HSET', KEYS[1], field, 'withdrawn')
return 'withdrawn'
