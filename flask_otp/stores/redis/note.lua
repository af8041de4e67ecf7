-- ARGV: now, id, expires at. Answers 1 to the one caller that recorded the mark, and nothing to others.
local now, expires_at = tonumber(ARGV[1]), tonumber(ARGV[3])
local held = call('HGET', key, 'p' .. ARGV[2])
-- A mark that has already expired would leave a key that never expires.
if expires_at <= now or (held and struct.unpack(TIME, held) > now) then return end
call('HSET', key, 'p' .. ARGV[2], struct.pack(TIME, expires_at))
keep_until(expires_at, now)
return 1
