-- ARGV: now, resend, challenge id, bucket, session tag, known bucket, known since (ms), surge, once, channel; then the
-- policy: seconds until the challenge expires, maximum attempts, cooldown, send limit, recipient limit, failure budget,
-- refuse
-- Answers {GONE}, {WAIT, seconds to wait}, or {SEND or QUIET, id, strong, fresh, expires at, ready at, known, bucket,
-- ends of the bucket's windows that the message was counted in, ends of the subject's}
local SEND, QUIET, WAIT, GONE = 1, 2, 3, 4
local now, resend, asked, session_tag = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3], ARGV[5]
local surge, expires_in, max_attempts, cooldown = ARGV[8] == '1', tonumber(ARGV[11]), tonumber(ARGV[12]), tonumber(ARGV[13])
local send_limit, recipient_limit, budget, channel = ARGV[14], ARGV[15], ARGV[16], ARGV[10]

local state = read_all(now)
local failures, keep = state.failures, state.keep
local known = is_known(state, ARGV[6], tonumber(ARGV[7]))
local bucket_id = known and ARGV[6] or ARGV[4]
local bucket = state.buckets[bucket_id] or struct.pack(BUCKET, 0, 0)
local budget_wait = wait_for(failures[known and bucket_id or ''] or '', 0, budget, now)

-- The newest, if a session has several.
local found, found_until, found_strong, found_tag, found_raw, channels = nil, 0, 0, '', '', ''
for id, raw in pairs(state.lives) do
  local expires_at, strong, attempts, tag, payer, at = struct.unpack(LIVE, raw)
  local mine = tag ~= '' and tag == session_tag
  if resend then mine = id == asked end
  if mine and (expires_at > found_until or (expires_at == found_until and id > found)) and is_open(
    expires_at, strong, attempts, payer, failures[payer] or '', expires_in, max_attempts, budget, now, surge
  ) then
    found, found_until, found_strong, found_tag, found_raw, channels = id, expires_at, strong, tag, raw, raw:sub(at)
  end
end
local is_first = channel ~= '' and not has_channel(channels, channel)
local is_other_way = resend and is_first and channels ~= ''
if resend and (not found or (is_other_way and #channels >= MAX_CHANNELS * CHANNEL_TAG)) then return {GONE} end

local ready_at = struct.unpack(TIME, bucket)
local cooling = ready_at - now
if cooling < 0 or cooling > cooldown + LEEWAY or is_other_way then cooling = 0 end
local wait = math.max(cooling, wait_for(bucket, HEAD, send_limit, now))
if not known then wait = math.max(wait, wait_for(state.sends, 0, recipient_limit, now)) end
if ARGV[17] == '1' and not found then wait = math.max(wait, budget_wait) end
local quiet, once = found and not resend and cooling > 0, ARGV[9] == '1'
if once and found and not quiet then
  quiet = not resend or not is_first
  -- A newer challenge of the same session has replaced it.
  for id, raw in pairs(found_tag ~= '' and state.lives or {}) do
    local expires_at, _, _, tag = struct.unpack(LIVE, raw)
    quiet = quiet or (tag == found_tag and (expires_at > found_until or (expires_at == found_until and id > found)))
  end
end
if wait > 0 and not quiet then return {WAIT, wait} end

local bucket_ends, subject_ends, changed = {}, {}, {}
local function change(field, raw, expires_at)
  if keep(field, expires_at) then changed[#changed + 1], changed[#changed + 2] = field, raw end
end
if not quiet then
  ready_at = now + cooldown
  bucket, bucket_ends = count(struct.pack(BUCKET, ready_at, known and 1 or 0) .. bucket:sub(HEAD + 1), HEAD, send_limit, now)
  if not known then state.sends, subject_ends = count(state.sends, 0, recipient_limit, now) end
  change('l' .. bucket_id, bucket, math.max(ready_at, latest(bucket, HEAD)))
  change('s', state.sends, latest(state.sends, 0))
end
if not found then
  local payer = known and bucket_id or ''
  found_until, found_strong = now + expires_in, (budget_wait > 0 or (surge and not known)) and 1 or 0
  local live = struct.pack(LIVE, found_until, found_strong, 0, #session_tag, session_tag, #payer, payer)
  change('c' .. asked, live .. channel, found_until)
elseif is_first and not quiet then
  change('c' .. found, found_raw .. channel, found_until)
end
for _, field in ipairs(state.dead) do call('HDEL', key, field) end
if #changed > 0 then call('HSET', key, unpack(changed)) end
call('EXPIRE', key, state.last - now)
return {
  quiet and QUIET or SEND, found or asked, found_strong, found and 0 or 1, found_until, ready_at,
  known and 1 or 0, bucket_id, bucket_ends, subject_ends
}
