-- ARGV: now, proof id. Answers 1 to the one caller that ended the proof, and nothing to others.
local expires_at = call('HGET', key, 'p' .. ARGV[2])
call('HDEL', key, 'p' .. ARGV[2])
return expires_at and struct.unpack(TIME, expires_at) > tonumber(ARGV[1])
