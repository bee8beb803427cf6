#!lua flags=allow-oom
-- KEYS[1] where the record lies   ARGV[1] the attempt's token
-- Writes a claim anew, so that who waits behind it waits for this claim. Byte 2 is the state, bytes 3 to 18 are the token
-- (proxy/store/codec.py). Returns 1, or 0 where no claim of this attempt is there any more.
local old = redis.call('GET', KEYS[1])
if not old or string.sub(old, 2, 18) ~= 'i' .. ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], old, 'KEEPTTL')
return 1
