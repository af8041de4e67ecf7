-- ARGV: challenge id, whether it is new, bucket, ends of the windows that the message was counted in: the bucket's and
-- the subject's (JSON)
local ends = cjson.decode(ARGV[4])
if ARGV[2] == '1' then call('HDEL', key, 'c' .. ARGV[1]) end

-- A window that has started since does not contain the message. A window without messages has ended.
local function give_back(raw, head, counted_until)
  local windows = ''
  for at = 1, #raw - head, PAIR_SIZE do
    local counted, last = struct.unpack(PAIR, raw, head + at)
    if last == counted_until[(at - 1) / PAIR_SIZE + 1] then counted = math.max(0, counted - 1) end
    windows = windows .. struct.pack(PAIR, counted, counted == 0 and 0 or last)
  end
  return raw:sub(1, head) .. windows
end

local bucket, sends = unpack(call('HMGET', key, 'l' .. ARGV[3], 's'))
if bucket then call('HSET', key, 'l' .. ARGV[3], give_back(bucket, HEAD, ends[1])) end
if sends then call('HSET', key, 's', give_back(sends, 0, ends[2])) end
