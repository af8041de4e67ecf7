-- ARGV: now, challenge id, lane, whether the lane is a known browser's, whether the challenge is fresh
local now, state = tonumber(ARGV[1]), load()
if ARGV[5] == '1' then state.c[ARGV[2]] = nil end

local function give_back(windows)
  for _, window in ipairs(windows) do
    if window[2] > now then window[1] = math.max(0, window[1] - 1) end
  end
end

if state.l[ARGV[3]] then give_back(state.l[ARGV[3]].s) end
if ARGV[4] ~= '1' then give_back(state.s) end
save(state, now)
