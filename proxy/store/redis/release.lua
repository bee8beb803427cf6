#!lua flags=allow-oom
-- KEYS[1] where the record lies   ARGV[1] the attempt's token
-- ARGV[2] "anew": tell the replicas even where there is nothing to do here, so that who waits for them waits for that
-- Byte 2 is the state, bytes 3 to 18 are the token (proxy/store/codec.py). Returns 1, or the record that stands against it.
local old = redis.call('GET', KEYS[1])
if not old then
  if ARGV[2] == 'anew' then
    redis.call('SET', KEYS[1], '', 'PX', 1)
    redis.call('DEL', KEYS[1])
  end
  return 1
end
if string.sub(old, 3, 18) ~= ARGV[1] or string.sub(old, 2, 2) ~= 'i' then
  if ARGV[2] == 'anew' then
    redis.call('SET', KEYS[1], old, 'KEEPTTL')
  end
  return old
end
redis.call('DEL', KEYS[1])
return 1
