-- ARGV: now, whether the code matches, strong, rationed, surge, bucket, known bucket, known since (ms), proof id, the
-- proof's expiry, the marks' expiry; then the policy: send limit, recipient limit, failure budget, refuse; then for
-- each use of the code its number of marks, and the marks
-- Answers {outcome, 0 unless this failure spent the budget, the known browser's bucket, seconds to wait, the answer of
-- count_failures in gates.lua}
local MATCH, WRONG, REFUSED = 1, 2, 3
local now, strong, rationed = tonumber(ARGV[1]), ARGV[3] == '1', ARGV[4] == '1'
local send_limit, recipient_limit, budget = ARGV[12], ARGV[13], ARGV[14]
local state = read_all(now)
local known = is_known(state, ARGV[7], tonumber(ARGV[8]))
local payer = known and ARGV[7] or ''
local bucket_id = known and ARGV[7] or ARGV[6]
local bucket = state.buckets[bucket_id] or struct.pack(BUCKET, 0, 0)
local failures = state.failures[payer] or ''

local wait = 0
if not strong or (rationed and ARGV[15] == '1') then wait = wait_for(failures, 0, budget, now) end
if rationed then
  wait = math.max(wait, wait_for(bucket, HEAD, send_limit, now))
  if not known then wait = math.max(wait, wait_for(state.sends, 0, recipient_limit, now)) end
end
if wait > 0 or (ARGV[5] == '1' and not strong and not known) then return {REFUSED, 0, '', wait} end

local changed = {}
local function change(field, raw) changed[#changed + 1], changed[#changed + 2] = field, raw end

if ARGV[2] == '1' then
  local last, at, free = 0, 16, #ARGV < 16
  while ARGV[at] and not free do
    free = true
    for place = at + 1, at + ARGV[at] do free = free and not state.marks[ARGV[place]] end
    if free then
      last = tonumber(ARGV[11])
      for place = at + 1, at + ARGV[at] do change('u' .. ARGV[place], struct.pack(TIME, last)) end
    end
    at = at + 1 + ARGV[at]
  end
  if not free then return {REFUSED, 0, '', 0} end
  if ARGV[9] ~= '' then
    change('p' .. ARGV[9], struct.pack(TIME, ARGV[10]))
    last = math.max(last, tonumber(ARGV[10]))
  end
  if last > now then
    call('HSET', key, unpack(changed))
    keep_until(last, now)
  end
  return {MATCH, 0, payer, 0}
end

if rationed then
  bucket = count(bucket, HEAD, send_limit, now)
  change('u' .. RATION .. bucket_id, struct.pack(TIME, latest(bucket, HEAD)))
  if not known then
    state.sends = count(state.sends, 0, recipient_limit, now)
    change('s', state.sends)
    change('u' .. RATION, struct.pack(TIME, latest(state.sends, 0)))
  end
end
if known or rationed then
  bucket = bucket:sub(1, HEAD - 1) .. string.char(known and 1 or 0) .. bucket:sub(HEAD + 1)
  change('l' .. bucket_id, bucket)
end
local before = wait_for(failures, 0, budget, now)
failures = count(failures, 0, budget, now)
local after = wait_for(failures, 0, budget, now)
change('f' .. payer, failures)
local last = math.max(latest(failures, 0), rationed and latest(bucket, HEAD) or 0, rationed and latest(state.sends, 0) or 0)
-- Without any limit there is nothing to keep, and the key would never expire.
if last > now then
  call('HSET', key, unpack(changed))
  keep_until(last, now)
end
return {WRONG, before == 0 and after or 0, payer, 0, count_failures()}
