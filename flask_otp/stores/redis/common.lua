-- Loaded before each script, after the constants of base.py. The state of one subject is one hash, so a verb reads only
-- the fields that it needs (subject_state.py does the same in Python):
--   c<id>      a challenge: expiry, strong, attempts, session tag, known bucket that pays, tags of the channels
--   p<id>      a proof, or what was noted: its expiry
--   u<mark>    a used code's mark: its expiry
--   l<bucket>  a bucket: ready at, whether it is a known browser's, then windows of its sends
--   f<bucket>  windows of the bucket's failures; f alone: of the subject's
--   s          windows of the subject's sends
--   r          when it was revoked, in milliseconds
-- Windows are pairs of a count and an end, one per rate. Rates are pairs of an amount and a period. Both stay bytes: a
-- table per window would cost more than all computations with it.
local TIME, TIME_MS, LIVE, BUCKET, PAIR = '<I5', '<I6', '<I5BBBc0Bc0', '<I5B', '<I4I5'
-- Bytes of a pair, and of a bucket before its windows.
local PAIR_SIZE, HEAD = 9, 6
local key, call = KEYS[1], redis.call

-- When the last of the windows ends that start after this many bytes of `raw`.
local function latest(raw, head)
  local last = 0
  for at = head + 1, #raw, PAIR_SIZE do
    local _, ends = struct.unpack(PAIR, raw, at)
    if ends > last then last = ends end
  end
  return last
end

-- A key lives until everything in it has expired.
local function keep_until(last, now)
  if call('TTL', key) < last - now then call('EXPIRE', key, last - now) end
end

-- Seconds until every rate has room for one more event. 0 if all have room now.
local function wait_for(raw, head, rates, now)
  local wait = 0
  for at = 1, math.min(#rates, #raw - head), PAIR_SIZE do
    local counted, ends = struct.unpack(PAIR, raw, head + at)
    if ends - now > wait and counted >= struct.unpack('<I4', rates, at) then wait = ends - now end
  end
  return wait
end

-- Count one event in the windows. Returns the new bytes and the ends of the windows, which distinguish them from later
-- ones.
local function count(raw, head, rates, now)
  local ends, windows = {}, ''
  for at = 1, #rates, PAIR_SIZE do
    local counted, last = 0, 0
    if head + at <= #raw then counted, last = struct.unpack(PAIR, raw, head + at) end
    if last <= now then
      local _, period = struct.unpack(PAIR, rates, at)
      counted, last = 0, now + period
    end
    windows, ends[#ends + 1] = windows .. struct.pack(PAIR, counted + 1, last), last
  end
  return raw:sub(1, head) .. windows .. raw:sub(head + #rates + 1), ends
end

-- Whether a code for the challenge may still be compared. A short code is not accepted while the failure budget that
-- pays for it is spent, nor, if a stranger opened it, during a surge.
local function is_open(expires_at, strong, attempts, bucket, failures, longest, max_attempts, budget, now, surge)
  if expires_at <= now or expires_at > now + longest + LEEWAY or attempts >= max_attempts then return false end
  return strong == 1 or not (surge and bucket == '' or wait_for(failures, 0, budget, now) > 0)
end

local function has_channel(channels, channel)
  for at = 1, #channels, CHANNEL_TAG do
    if channels:sub(at, at + CHANNEL_TAG - 1) == channel then return true end
  end
  return false
end
