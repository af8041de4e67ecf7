-- ARGV: now in milliseconds
local now_ms, before = tonumber(ARGV[1]), call('HGET', key, 'r')
local revoked = math.max(now_ms, before and struct.unpack(TIME_MS, before) or now_ms)
local fields = call('HKEYS', key)
-- Delete first: a server without free memory lets a script continue that has freed some.
for _, field in ipairs(fields) do
  local kind = field:sub(1, 1)
  if kind == 'c' or kind == 'p' then call('HDEL', key, field) end
end
for _, field in ipairs(fields) do
  if field:sub(1, 1) == 'l' then
    -- It still counts but takes no place. Otherwise revoked browsers would keep the owner's next browsers strangers.
    local bucket = call('HGET', key, field)
    call('HSET', key, field, bucket:sub(1, HEAD - 1) .. string.char(0) .. bucket:sub(HEAD + 1))
  end
end
call('HSET', key, 'r', struct.pack(TIME_MS, revoked))
keep_until(math.floor(revoked / 1000) + KNOWN_BROWSER_FOR, math.floor(now_ms / 1000))
