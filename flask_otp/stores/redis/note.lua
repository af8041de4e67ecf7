-- ARGV: now, id, expires at
local now, expires_at = tonumber(ARGV[1]), tonumber(ARGV[3])
-- What is over already would leave a key without an end.
if expires_at > now then
  call('HSET', key, 'p' .. ARGV[2], struct.pack(TIME, expires_at))
  keep_until(expires_at, now)
end
