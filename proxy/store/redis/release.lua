#!lua flags=allow-oom
-- KEYS[1] where the record lies   ARGV[1] the attempt's token
-- Byte 2 is the state, bytes 3 to 18 are the token (proxy/store/codec.py). Returns 1, or the record that stands against it.
local old = redis.call('GET', KEYS[1])
if not old then
  return 1
end
if string.sub(old, 3, 18) ~= ARGV[1] or string.sub(old, 2, 2) ~= 'i' then
  return old
end
redis.call('DEL', KEYS[1])
return 1
