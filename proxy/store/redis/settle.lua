#!lua flags=allow-oom
-- KEYS[1] where the record lies   ARGV[1] the new record   ARGV[2] milliseconds to keep it where nothing is there
-- Byte 2 is the state, bytes 3 to 18 are the token (proxy/store/codec.py). Returns 1, or the record that stands against it.
-- allow-oom: a response that the backend gave is written down even where the server takes no new keys.
local new, old = ARGV[1], redis.call('GET', KEYS[1])
if not old then
  if tonumber(ARGV[2]) > 0 then
    redis.call('SET', KEYS[1], new, 'PX', ARGV[2])
  end
  return 1
end
if string.sub(old, 3, 18) ~= string.sub(new, 3, 18) then
  return old
end
local from, to = string.sub(old, 2, 2), string.sub(new, 2, 2)
local better = from == 'i' or (from == 'u' and to == 'c')
redis.call('SET', KEYS[1], better and new or old, 'KEEPTTL') -- in any case, so that who waits behind it waits for this
return 1
