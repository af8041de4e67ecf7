-- ARGV: now in milliseconds
local now_ms, state = tonumber(ARGV[1]), load()
state.c, state.p, state.r = {}, {}, math.max(state.r, now_ms)
save(state, math.floor(now_ms / 1000))
