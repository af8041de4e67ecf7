-- ARGV: now, id, expires at. Answers 1 to the one caller that recorded the mark, and nothing to others.
local now, expires_at = tonumber(ARGV[1]), tonumber(ARGV[3])
local held = call('HGET', key, 'p' .. ARGV[2])
-- What is over already would leave a key without an end.
if expires_at <= now or (held and struct.unpack(TIME, held) > now) then return end
call('HSET', key, 'p' .. ARGV[2], struct.pack(TIME, expires_at))
keep_until(expires_at, now)
return 1
