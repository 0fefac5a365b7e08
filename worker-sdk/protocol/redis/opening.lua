-- Put before claim.lua and report.lua: what the offers say to one worker. Its claim, the lowest offer
-- that names it, the lowest that names nobody; false where there is none.
local function offers_for(key, worker)
    local claim, named, anybody = false, false, false
    local fields = redis.call('HGETALL', key)
    for i = 1, #fields, 2 do
        local id = string.match(fields[i], '^o:(%d+)$')
        if id then
            id = tonumber(id)
            if fields[i + 1] == 'claimed:' .. worker then claim = id end
            if fields[i + 1] == 'open:' .. worker and (not named or id < named) then named = id end
            if fields[i + 1] == 'open' and (not anybody or id < anybody) then anybody = id end
        end
    end
    return claim, named, anybody
end
