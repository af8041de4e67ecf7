-- ARGV: now, challenge id, whether the code matches, proof id, the proof's expiry, surge, then the policy: seconds until a
-- challenge expires, most attempts, failure budget
-- Answers {outcome, 0 unless this failure spent the budget, the known bucket that the challenge was opened from}
local MATCH, WRONG, REFUSED = 1, 2, 3
local now, field = tonumber(ARGV[1]), 'c' .. ARGV[2]
local raw, of_subject = unpack(call('HMGET', key, field, 'f'))
if not raw then return {REFUSED, 0, ''} end
local live = unpack_live(raw)
local of_payer = of_subject
if live.bucket ~= '' then of_payer = call('HGET', key, 'f' .. live.bucket) end
local failures, budget = unpack_pairs(of_payer), unpack_pairs(ARGV[9])

if not is_open(live, tonumber(ARGV[7]), tonumber(ARGV[8]), failures, budget, now, ARGV[6] == '1') then
  return {REFUSED, 0, ''}
end
if ARGV[3] == '1' then
  -- First what needs memory: without any, a right code must be as much in vain as a wrong one, which is not counted then.
  call('HSET', key, 'p' .. ARGV[4], struct.pack(TIME, ARGV[5]))
  call('HDEL', key, field)
  keep_until(tonumber(ARGV[5]), now)
  return {MATCH, 0, live.bucket}
end
live.attempts = live.attempts + 1
local before = wait_for(failures, budget, now)
count(failures, budget, now)
local after = wait_for(failures, budget, now)
call('HSET', key, field, pack_live(live), 'f' .. live.bucket, pack_pairs(failures))
if live.bucket ~= '' then call('HSETNX', key, 'l' .. live.bucket, struct.pack(BUCKET, 0, 1)) end
keep_until(latest(failures), now)
return {WRONG, before == 0 and after or 0, live.bucket}
