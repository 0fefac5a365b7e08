-- Has a worker take nothing from now on, unless it has reported lately: it is released before it has begun.
-- KEYS: reports, released. ARGV: worker, milliseconds that are not lately any more, the report of one that
-- has not begun, by which it is forgotten with the others. 1; or 0 when it has reported.
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then return 1 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local text = redis.call('HGET', KEYS[1], ARGV[1])
if text and now - tonumber(string.match(text, '^%d+')) <= tonumber(ARGV[2]) then return 0 end
redis.call('SADD', KEYS[2], ARGV[1])
redis.call('HSETNX', KEYS[1], ARGV[1], now .. '::' .. ARGV[3])
return 1
