-- For verbs that must see everything. Expired fields are listed in `dead`, for the caller to delete, and appear nowhere
-- else; `last` is when the last of the rest expires.
local function read_all(now)
  local state = {lives = {}, buckets = {}, failures = {}, sends = '', marks = {}, revoked = 0, dead = {}, last = 0}
  function state.keep(field, expires_at)
    if expires_at > now then state.last = math.max(state.last, expires_at) else state.dead[#state.dead + 1] = field end
    return expires_at > now
  end
  local all = call('HGETALL', key)
  for i = 1, #all, 2 do
    local field, raw = all[i], all[i + 1]
    local kind, id = field:sub(1, 1), field:sub(2)
    if kind == 'l' then state.buckets[id] = raw
    elseif kind == 'f' then state.failures[id] = raw
    elseif kind == 's' then state.sends = raw
    elseif kind == 'r' then state.revoked = struct.unpack(TIME_MS, raw)
    elseif state.keep(field, (struct.unpack(TIME, raw))) then
      if kind == 'c' then state.lives[id] = raw elseif kind == 'u' then state.marks[id] = true end
    end
  end
  state.last = math.max(state.last, latest(state.sends, 0), math.floor(state.revoked / 1000) + KNOWN_BROWSER_FOR)
  for id, windows in pairs(state.failures) do
    if not state.keep('f' .. id, latest(windows, 0)) then state.failures[id] = nil end
  end
  for id, bucket in pairs(state.buckets) do
    local last = math.max(struct.unpack(TIME, bucket), latest(bucket, HEAD), latest(state.failures[id] or '', 0))
    if not state.keep('l' .. id, last) then state.buckets[id] = nil end
  end
  return state
end

-- Each known browser's bucket has its own limits, so a subject may have only a few.
local function is_known(state, known_bucket, known_since)
  if known_bucket == '' or known_since <= state.revoked then return false end
  local others = 0
  for id, bucket in pairs(state.buckets) do
    if bucket:byte(HEAD) == 1 and id ~= known_bucket then others = others + 1 end
  end
  return others < KNOWN_BROWSERS
end
