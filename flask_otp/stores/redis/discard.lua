-- ARGV: challenge id, whether it is fresh, bucket, ends of the windows that the message was counted on: the bucket's and
-- the subject's (JSON)
local ends = cjson.decode(ARGV[4])
if ARGV[2] == '1' then call('HDEL', key, 'c' .. ARGV[1]) end

-- A window that has begun since is not the one the message was counted on; one without any message is none.
local function give_back(windows, counted)
  for i, window in ipairs(windows) do
    if window[2] == counted[i] then window[1] = math.max(0, window[1] - 1) end
    if window[1] == 0 then window[2] = 0 end
  end
  return windows
end

local bucket, sends = call('HGET', key, 'l' .. ARGV[3]), call('HGET', key, 's')
if bucket then
  bucket = unpack_bucket(bucket)
  give_back(bucket.sends, ends[1])
  call('HSET', key, 'l' .. ARGV[3], pack_bucket(bucket))
end
if sends then call('HSET', key, 's', pack_pairs(give_back(unpack_pairs(sends), ends[2]))) end
