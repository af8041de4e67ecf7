-- ARGV: now, proof id. Answers 1 to the one caller that ended the proof.
local expires_at = call('HGET', key, 'p' .. ARGV[2])
call('HDEL', key, 'p' .. ARGV[2])
return expires_at and struct.unpack(TIME, expires_at) > tonumber(ARGV[1]) and 1 or 0
