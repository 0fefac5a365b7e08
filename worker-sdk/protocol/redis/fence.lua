-- Gives up a turn whose answer was lost. KEYS: the holder's turns. ARGV: slot, the turn's number.
-- 1 when it was done; else 0, and it never will be, also when asked again.
if last_turn(KEYS[1], ARGV[1]) >= tonumber(ARGV[2]) then return 1 end
keep(KEYS[1], ARGV[1], '-' .. ARGV[2])
return 0
