-- How often a payload has failed, and its digest. Reads only. KEYS: attempts. ARGV: payload.
local digest = redis.sha1hex(ARGV[1])
return {redis.call('HGET', KEYS[1], digest) or '0', digest}
