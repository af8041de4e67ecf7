-- ARGV: policy, now, resend, challenge id, lane, holder, known lane, known since (ms), surge
-- Answers {outcome, id, strong, fresh, expires at, ready at, retry after, known, lane,
-- ends of the windows counted on (JSON)}
local SEND, QUIET, WAIT, GONE = 1, 2, 3, 4
local policy, now, resend = cjson.decode(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local asked, network, holder, known_lane = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local state = load()

for id, live in pairs(state.c) do if live.e <= now then state.c[id] = nil end end
for id, lane in pairs(state.l) do if lane_end(lane) <= now then state.l[id] = nil end end
for id, expiry in pairs(state.p) do if expiry <= now then state.p[id] = nil end end

-- Each lane of a known browser has limits of its own, so a subject may have a few only.
local others = 0
for id, lane in pairs(state.l) do if lane.k == 1 and id ~= known_lane then others = others + 1 end end
local known = known_lane ~= '' and tonumber(ARGV[8]) > state.r and others < KNOWN_LANES
local lane_id = known and known_lane or network
local lane = state.l[lane_id] or {r = 0, s = {}, f = {}}
local budget_wait = wait_for((known and lane or state).f, policy.failure_budget, now)

-- The newest, if a holder has several.
local found = nil
for id, live in pairs(state.c) do
  local mine = live.h ~= '' and live.h == holder
  if resend then mine = id == asked end
  if mine and live.a < policy.max_attempts and not outbid(state, live, policy, now, ARGV[9] == '1') then
    local best = state.c[found or '']
    if not best or live.e > best.e or (live.e == best.e and id > found) then found = id end
  end
end
if resend and not found then return {GONE} end

local cooling = math.max(0, lane.r - now)
local wait = math.max(cooling, wait_for(lane.s, policy.send_limit, now))
if not known then wait = math.max(wait, wait_for(state.s, policy.recipient_limit, now)) end
if policy.refuse and not found then wait = math.max(wait, budget_wait) end
if wait > 0 and not (found and cooling > 0 and not resend) then
  return {WAIT, '', 0, 0, 0, 0, wait}
end

local counted = {{}, {}}
if wait == 0 then
  lane.r, lane.k = now + policy.cooldown, known and 1 or 0
  counted[1] = count(lane.s, policy.send_limit, now)
  if not known then counted[2] = count(state.s, policy.recipient_limit, now) end
  state.l[lane_id] = lane
end
if not found then
  local strong = (budget_wait > 0 or (ARGV[9] == '1' and not known)) and 1 or 0
  state.c[asked] = {e = now + policy.expires_in, s = strong, h = holder, l = known and lane_id or '', a = 0}
end
save(state, now)
local live = state.c[found or asked]
return {
  wait > 0 and QUIET or SEND, found or asked, live.s, found and 0 or 1, live.e, lane.r, 0, known and 1 or 0, lane_id,
  cjson.encode(counted)
}
