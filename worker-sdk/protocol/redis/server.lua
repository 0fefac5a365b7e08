-- Put before every script of the control path: the epoch that holds. The path keeps, beside its epoch,
-- which start of the server it was written to; on another one (a restart, a failover) the last writes
-- may be lost, so the epoch is taken for gone.
local function server()
    local info = redis.pcall('INFO', 'server')
    if type(info) ~= 'string' then return '' end
    return string.match(info, 'run_id:(%w+)') or ''
end
local function epoch(key)
    local fields = redis.call('HMGET', key, 'epoch', 'server')
    if not fields[1] or fields[2] ~= server() then return false end
    return fields[1]
end
