-- ARGV: policy, now, challenge id, whether the code matches, proof id, the proof's expiry, surge
-- Answers {outcome, whether this failure spent the budget, the known lane that the challenge was opened from}
local MATCH, WRONG, REFUSED = 1, 2, 3
local policy, now, id = cjson.decode(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local state = load()
local live = state.c[id]

if not live or live.e <= now or live.a >= policy.max_attempts or outbid(state, live, policy, now, ARGV[7] == '1') then
  return {REFUSED, 0, ''}
end
live.a = live.a + 1
if ARGV[4] == '1' then
  state.c[id] = nil
  state.p[ARGV[5]] = tonumber(ARGV[6])
  save(state, now)
  return {MATCH, 0, live.l}
end
local failures = payer(state, live).f
local before = wait_for(failures, policy.failure_budget, now)
count(failures, policy.failure_budget, now)
local after = wait_for(failures, policy.failure_budget, now)
save(state, now)
return {WRONG, before == 0 and after > 0 and 1 or 0, live.l}
