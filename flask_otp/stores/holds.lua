-- ARGV: now, proof id. Answers 1 if the proof is recorded and has not expired.
return (load().p[ARGV[2]] or 0) > tonumber(ARGV[1]) and 1 or 0
