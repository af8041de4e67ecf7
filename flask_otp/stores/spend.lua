-- ARGV: now, proof id. Answers 1 to the one caller that ended the proof.
local now, state = tonumber(ARGV[1]), load()
local expiry = state.p[ARGV[2]]
if not expiry then return 0 end
state.p[ARGV[2]] = nil
save(state, now)
return expiry > now and 1 or 0
