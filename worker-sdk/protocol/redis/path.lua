-- Everything on the control path. Reads only. KEYS: offers, reports, released. Epoch ('' none), the
-- fields of the offers, the reports by worker, the released workers, the server's milliseconds.
local now = redis.call('TIME')
return {epoch(KEYS[1]) or '', redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2]),
    redis.call('SMEMBERS', KEYS[3]), now[1] * 1000 + math.floor(now[2] / 1000)}
