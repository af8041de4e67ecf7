-- Set before each of the scripts, after the constants of base.py. The state of one subject is one MessagePack string
-- under one key (record.py has the same in Python):
--   f, s  windows of the failures and of the sends: {{count, end}, ...}, one for each rate
--   c     challenges: id -> {e = expiry, s = strong, h = holder, l = known lane that pays, a = attempts}
--   l     lanes: id -> {r = ready at, s = windows of sends, f = windows of failures, k = a known browser's}
--   p     proofs: id -> expiry
--   r     when it was revoked, in milliseconds

local function load()
  local raw = redis.call('GET', KEYS[1])
  if raw then return cmsgpack.unpack(raw) end
  return {f = {}, s = {}, c = {}, l = {}, p = {}, r = 0}
end

local function latest(windows)
  local last = 0
  for _, window in ipairs(windows) do last = math.max(last, window[2]) end
  return last
end

local function lane_end(lane)
  return math.max(lane.r, latest(lane.s), latest(lane.f))
end

local function save(state, now)
  local last = math.max(latest(state.f), latest(state.s))
  if state.r > 0 then last = math.max(last, math.floor(state.r / 1000) + KNOWN_FOR) end
  for _, live in pairs(state.c) do last = math.max(last, live.e) end
  for _, lane in pairs(state.l) do last = math.max(last, lane_end(lane)) end
  for _, expiry in pairs(state.p) do last = math.max(last, expiry) end
  if last > now then
    redis.call('SET', KEYS[1], cmsgpack.pack(state), 'EX', last - now)
  else
    redis.call('DEL', KEYS[1])
  end
end

-- Seconds until every rate has room for one more; 0 if they all have it now.
local function wait_for(windows, rates, now)
  local wait = 0
  for i, window in ipairs(windows) do
    if rates[i] and window[2] > now and window[1] >= rates[i][1] then wait = math.max(wait, window[2] - now) end
  end
  return wait
end

-- Answers when the windows end, which tells them from later ones.
local function count(windows, rates, now)
  local ends = {}
  for i, rate in ipairs(rates) do
    if not windows[i] or windows[i][2] <= now then windows[i] = {0, now + rate[2]} end
    windows[i][1] = windows[i][1] + 1
    ends[i] = windows[i][2]
  end
  return ends
end

-- Whose failure budget a challenge is on: its known lane's, or the subject's.
local function payer(state, live)
  if live.l == '' then return state end
  if not state.l[live.l] then state.l[live.l] = {r = 0, s = {}, f = {}, k = 1} end
  return state.l[live.l]
end

-- A short code is worth nothing any more when its budget is spent, or a stranger's in a surge.
local function outbid(state, live, policy, now, surge)
  local spent = wait_for(payer(state, live).f, policy.failure_budget, now) > 0
  return live.s == 0 and (spent or (surge and live.l == ''))
end
