-- ARGV: now, challenge id, whether the code matches, proof id, the proof's expiry, surge; then the policy: seconds
-- until a challenge expires, maximum attempts, failure budget
-- Answers {outcome, 0 unless this failure spent the budget, the known bucket that opened the challenge}; with MATCH
-- also {the tags of the channels, concatenated}; after a failure also {1 if it was the challenge's last attempt, the
-- answer of count_failures in gates.lua}
local MATCH, WRONG, REFUSED = 1, 2, 3
local now, field, budget = tonumber(ARGV[1]), 'c' .. ARGV[2], ARGV[9]
local raw, failures = unpack(call('HMGET', key, field, 'f'))
if not raw then return {REFUSED, 0, ''} end
local expires_at, strong, attempts, session_tag, bucket, at = struct.unpack(LIVE, raw)
if bucket ~= '' then failures = call('HGET', key, 'f' .. bucket) end
failures = failures or ''

local longest, max_attempts = tonumber(ARGV[7]), tonumber(ARGV[8])
if not is_open(expires_at, strong, attempts, bucket, failures, longest, max_attempts, budget, now, ARGV[6] == '1') then
  return {REFUSED, 0, ''}
end
if ARGV[3] == '1' then
  -- First the commands that need memory: without memory, a right code must fail like a wrong one, which is not counted
  -- then.
  call('HSET', key, 'p' .. ARGV[4], struct.pack(TIME, ARGV[5]))
  call('HDEL', key, field)
  keep_until(tonumber(ARGV[5]), now)
  return {MATCH, 0, bucket, raw:sub(at)}
end
local before = wait_for(failures, 0, budget, now)
failures = count(failures, 0, budget, now)
local live = struct.pack(LIVE, expires_at, strong, attempts + 1, #session_tag, session_tag, #bucket, bucket) .. raw:sub(at)
call('HSET', key, field, live, 'f' .. bucket, failures)
if bucket ~= '' then call('HSETNX', key, 'l' .. bucket, struct.pack(BUCKET, 0, 1)) end
keep_until(latest(failures, 0), now)
return {WRONG, before == 0 and wait_for(failures, 0, budget, now) or 0, bucket, attempts + 1 >= max_attempts and 1 or 0, count_failures()}
