-- ARGV: now, resend, challenge id, bucket, session_tag, known bucket, known since (ms), surge, then the policy: seconds until the
-- challenge expires, most attempts, cooldown, send limit, recipient limit, failure budget, refuse
-- Answers {GONE}, {WAIT, for so many seconds}, or {SEND or QUIET, id, strong, fresh, expires at, ready at, known, bucket,
-- ends of the bucket's windows that the message was counted on, ends of the subject's}
local SEND, QUIET, WAIT, GONE = 1, 2, 3, 4
local now, resend, asked, network, session_tag = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3], ARGV[4], ARGV[5]
local known_bucket, surge, expires_in, max_attempts = ARGV[6], ARGV[8] == '1', tonumber(ARGV[9]), tonumber(ARGV[10])
local cooldown = tonumber(ARGV[11])
local send_limit, recipient_limit = unpack_pairs(ARGV[12]), unpack_pairs(ARGV[13])
local budget = unpack_pairs(ARGV[14])

local state = read_all(now)
local lives, buckets, failures, sends, keep = state.lives, state.buckets, state.failures, state.sends, state.keep
local known = is_known(state, known_bucket, tonumber(ARGV[7]))
local bucket_id = known and known_bucket or network
local bucket = buckets[bucket_id] or {ready_at = 0, sends = {}}
local budget_wait = wait_for(failures[known and bucket_id or ''] or {}, budget, now)

-- The newest, if a session has several.
local found = nil
for id, live in pairs(lives) do
  local mine = live.session_tag ~= '' and live.session_tag == session_tag
  if resend then mine = id == asked end
  if mine and is_open(live, expires_in, max_attempts, failures[live.bucket] or {}, budget, now, surge) then
    local best = lives[found]
    if not best or live.expires_at > best.expires_at or (live.expires_at == best.expires_at and id > found) then
      found = id
    end
  end
end
if resend and not found then return {GONE} end

local cooling = bucket.ready_at - now
if cooling < 0 or cooling > cooldown + LEEWAY then cooling = 0 end
local wait = math.max(cooling, wait_for(bucket.sends, send_limit, now))
if not known then wait = math.max(wait, wait_for(sends, recipient_limit, now)) end
if ARGV[15] == '1' and not found then wait = math.max(wait, budget_wait) end
if wait > 0 and not (found and cooling > 0 and not resend) then return {WAIT, wait} end

local bucket_ends, subject_ends, changed = {}, {}, {}
local function change(field, raw, expires_at)
  if keep(field, expires_at) then changed[#changed + 1], changed[#changed + 2] = field, raw end
end
if wait == 0 then
  bucket.ready_at, bucket.known = now + cooldown, known and 1 or 0
  bucket_ends = count(bucket.sends, send_limit, now)
  if not known then subject_ends = count(sends, recipient_limit, now) end
  change('l' .. bucket_id, pack_bucket(bucket), math.max(bucket.ready_at, latest(bucket.sends)))
  change('s', pack_pairs(sends), latest(sends))
end
local live = lives[found]
if not found then
  local strong = (budget_wait > 0 or (surge and not known)) and 1 or 0
  live = {expires_at = now + expires_in, strong = strong, attempts = 0, session_tag = session_tag, bucket = known and bucket_id or ''}
  change('c' .. asked, pack_live(live), live.expires_at)
end
for _, field in ipairs(state.dead) do call('HDEL', key, field) end
if #changed > 0 then call('HSET', key, unpack(changed)) end
call('EXPIRE', key, state.last - now)
return {
  wait > 0 and QUIET or SEND, found or asked, live.strong, found and 0 or 1, live.expires_at, bucket.ready_at,
  known and 1 or 0, bucket_id, bucket_ends, subject_ends
}
