-- ARGV: now, challenge id
local state = load()
if state.c[ARGV[2]] then
  state.c[ARGV[2]] = nil
  save(state, tonumber(ARGV[1]))
end
