-- ARGV: now, challenge id, whether it is fresh, lane, ends of the windows that the message was counted on (JSON)
local now, state, ends = tonumber(ARGV[1]), load(), cjson.decode(ARGV[5])
if ARGV[3] == '1' then state.c[ARGV[2]] = nil end

-- A window that has begun since is not the one the message was counted on; one without any message is none.
local function give_back(windows, counted)
  for i, window in ipairs(windows) do
    if window[2] == counted[i] then window[1] = math.max(0, window[1] - 1) end
    if window[1] == 0 then window[2] = 0 end
  end
end

if state.l[ARGV[4]] then give_back(state.l[ARGV[4]].s, ends[1]) end
give_back(state.s, ends[2])
save(state, now)
