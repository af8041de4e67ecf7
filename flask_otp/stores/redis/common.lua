-- Set before each of the scripts, after the constants of base.py. The state of one subject is one hash, so that a verb
-- reads the fields it needs and no others (record.py has the same in Python):
--   c<id>    a challenge: expiry, strong, attempts, session_tag, known bucket that pays
--   p<id>    a proof, or what was noted: its expiry
--   u<mark>  a used code's mark: its expiry
--   l<bucket>  a bucket: ready at, whether it is a known browser's, then windows of its sends
--   f<bucket>  windows of the bucket's failures; f alone: of the subject's
--   s        windows of the subject's sends
--   r        when it was revoked, in milliseconds
-- Windows are pairs of a count and an end, one for each rate; rates come as pairs of an amount and a period.
local TIME, TIME_MS, LIVE, BUCKET, PAIR, PAIR_SIZE = '<I5', '<I6', '<I5BBBc0Bc0', '<I5B', '<I4I5', 9
local key, call = KEYS[1], redis.call

local function unpack_pairs(raw, from)
  local found = {}
  for at = from or 1, raw and #raw or 0, PAIR_SIZE do
    local first, second = struct.unpack(PAIR, raw, at)
    found[#found + 1] = {first, second}
  end
  return found
end

local function pack_pairs(windows)
  local raw = ''
  for _, window in ipairs(windows) do raw = raw .. struct.pack(PAIR, window[1], window[2]) end
  return raw
end

local function unpack_live(raw)
  local live = {}
  live.expires_at, live.strong, live.attempts, live.session_tag, live.bucket = struct.unpack(LIVE, raw)
  return live
end

local function pack_live(live)
  return struct.pack(LIVE, live.expires_at, live.strong, live.attempts, #live.session_tag, live.session_tag, #live.bucket, live.bucket)
end

local function unpack_bucket(raw)
  local ready_at, known, from = struct.unpack(BUCKET, raw)
  return {ready_at = ready_at, known = known, sends = unpack_pairs(raw, from)}
end

local function pack_bucket(bucket)
  return struct.pack(BUCKET, bucket.ready_at, bucket.known) .. pack_pairs(bucket.sends)
end

local function latest(windows)
  local last = 0
  for _, window in ipairs(windows) do last = math.max(last, window[2]) end
  return last
end

-- A key lives as long as anything in it means something.
local function keep_until(last, now)
  if call('TTL', key) < last - now then call('EXPIRE', key, last - now) end
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

-- Whether a code for the challenge may still be compared. A short one is worth nothing any more when the budget that
-- pays for it is spent, or a stranger's in a surge.
local function is_open(live, longest, max_attempts, failures, budget, now, surge)
  local superseded = live.strong == 0 and (wait_for(failures, budget, now) > 0 or (surge and live.bucket == ''))
  local in_time = live.expires_at > now and live.expires_at <= now + longest + LEEWAY
  return in_time and live.attempts < max_attempts and not superseded
end

-- Everything in the hash. What is over is listed in `dead`, for the caller to delete, and is found nowhere else; `last` is
-- when the last of the rest is over.
local function read_all(now)
  local state = {lives = {}, buckets = {}, failures = {}, sends = {}, marks = {}, revoked = 0, dead = {}, last = 0}
  function state.keep(field, expires_at)
    if expires_at > now then state.last = math.max(state.last, expires_at) else state.dead[#state.dead + 1] = field end
    return expires_at > now
  end
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    local field, raw = all[i], all[i + 1]
    local kind, id = field:sub(1, 1), field:sub(2)
    if kind == 'c' then
      local live = unpack_live(raw)
      if state.keep(field, live.expires_at) then state.lives[id] = live end
    elseif kind == 'p' then state.keep(field, (struct.unpack(TIME, raw)))
    elseif kind == 'u' then state.marks[id] = state.keep(field, (struct.unpack(TIME, raw)))
    elseif kind == 'l' then state.buckets[id] = unpack_bucket(raw)
    elseif kind == 'f' then state.failures[id] = unpack_pairs(raw)
    elseif kind == 's' then state.sends = unpack_pairs(raw)
    elseif kind == 'r' then state.revoked = struct.unpack(TIME_MS, raw)
    end
  end
  state.last = math.max(state.last, latest(state.sends), math.floor(state.revoked / 1000) + KNOWN_BROWSER_FOR)
  for id, windows in pairs(state.failures) do
    if not state.keep('f' .. id, latest(windows)) then state.failures[id] = nil end
  end
  for id, bucket in pairs(state.buckets) do
    local last = math.max(bucket.ready_at, latest(bucket.sends), latest(state.failures[id] or {}))
    if not state.keep('l' .. id, last) then state.buckets[id] = nil end
  end
  return state
end

-- Each bucket of a known browser has limits of its own, so a subject may have a few only.
local function is_known(state, known_bucket, known_since)
  local others = 0
  for id, bucket in pairs(state.buckets) do if bucket.known == 1 and id ~= known_bucket then others = others + 1 end end
  return known_bucket ~= '' and known_since > state.revoked and others < KNOWN_BROWSERS
end
