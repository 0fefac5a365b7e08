-- Turns a drained report into "released". KEYS: reports, released. ARGV: worker, boot.
-- 1; or 0 when the report says something else.
local text = redis.call('HGET', KEYS[1], ARGV[1])
if not text then return 0 end
local report = cjson.decode(string.match(text, '^%d+:%w*:(.*)$'))
if report.state ~= 'drained' or report.boot ~= ARGV[2] then return 0 end
redis.call('SADD', KEYS[2], ARGV[1])
return 1
