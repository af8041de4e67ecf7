-- Runs before a verb if the limits' storage is on this server: counts the rules of the client's network, and the surge.
-- With one script, a refused network does nothing else, and a refused verb is not tried twice.
-- KEYS after the subject's: one for each rule of the network; then three for each surge limit: the network's failures,
-- the site's failures, and the mark that some network is in a surge. They are the keys of the library limits.
-- ARGV before the verb's: pairs of amount and period for the rules; share, maximum and period for each surge limit.
local rules, surges = table.remove(ARGV, 1), table.remove(ARGV, 1)
local LIMITED = 0

-- Like incr_expire.lua of the library ``limits``.
local function hit(counter, period)
  local counted = call('INCRBY', counter, 1)
  if counted == 1 then call('EXPIRE', counter, period) end
  return counted
end

-- Answers {LIMITED, index of the rule, seconds until its window ends}.
for at = 1, #rules, PAIR_SIZE do
  local amount, period = struct.unpack(PAIR, rules, at)
  local rule = (at - 1) / PAIR_SIZE + 1
  if hit(KEYS[1 + rule], period) > amount then return {LIMITED, rule, call('TTL', KEYS[1 + rule])} end
end

-- Count a wrong short code like limits/surge.py. Answers for each surge limit the network's failures and the site's
-- failures, or 0 if this failure does not count for the site.
local function count_failures()
  local counts, place = {}, 1 + #rules / PAIR_SIZE
  for at = 1, #surges, 13 do
    local share, most, period = struct.unpack('<I4I4I5', surges, at)
    local of_network, of_site = hit(KEYS[place + 1], period), 0
    if of_network >= share then hit(KEYS[place + 3], 2 * period) end
    if of_network <= most then of_site = hit(KEYS[place + 2], period) end
    counts[#counts + 1], counts[#counts + 2] = of_network, of_site
    place = place + 3
  end
  return counts
end
