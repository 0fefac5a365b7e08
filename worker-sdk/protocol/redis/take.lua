-- Takes the next task. KEYS: the holder's turns, then for each queue its list, the holder's processing list,
-- attempts. ARGV: slot, the turn's number. The place of the task's queue in that order from 0, payload, how
-- often it has failed, its digest; or nothing, also when that turn was given up.
if is_over(KEYS[1], ARGV[1], ARGV[2]) then return false end
local task = next_task(2)
if task then keep(KEYS[1], ARGV[1], ARGV[2]) end
return task
