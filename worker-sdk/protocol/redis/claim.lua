-- Takes an open offer for a worker: one that names it, else the lowest that names nobody; a claim that
-- it already has is returned again. KEYS: offers. ARGV: epoch, worker. The offer; or -1 for none.
if epoch(KEYS[1]) ~= ARGV[1] then return -1 end
local claim, named, anybody = offers_for(KEYS[1], ARGV[2])
local id = claim or named or anybody
if not id then return -1 end
redis.call('HSET', KEYS[1], 'o:' .. id, 'claimed:' .. ARGV[2])
return id
