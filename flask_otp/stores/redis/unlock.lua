-- ARGV: now
-- Answers 0 if some windows stay because guesses are counted in them
local now, fields, rationed, all = tonumber(ARGV[1]), call('HGETALL', key), {}, 1
for at = 1, #fields, 2 do
  local mark = fields[at]:sub(2)
  if fields[at]:sub(1, 1 + #RATION) == 'u' .. RATION and struct.unpack(TIME, fields[at + 1]) > now then
    rationed[mark:sub(1 + #RATION)], all = true, 0
  end
end

-- A window keeps its end: a known browser's bucket keeps its place among those that count.
local function clear(raw, head)
  local windows = ''
  for at = head + 1, #raw, PAIR_SIZE do
    local _, last = struct.unpack(PAIR, raw, at)
    windows = windows .. struct.pack(PAIR, 0, last)
  end
  return windows
end

for at = 1, #fields, 2 do
  local field, raw = fields[at], fields[at + 1]
  if field:sub(1, 1) == 'l' then
    local windows = rationed[field:sub(2)] and raw:sub(1 + HEAD) or clear(raw, HEAD)
    call('HSET', key, field, struct.pack(BUCKET, 0, raw:byte(HEAD)) .. windows)
  elseif field == 's' and not rationed[''] then
    call('HSET', key, field, clear(raw, 0))
  end
end
return all
