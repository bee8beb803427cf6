#!lua flags=allow-oom
-- KEYS[1] a name   ARGV[1] its value   ARGV[2] milliseconds to keep it for; what is left to what is there, if that is more
-- allow-oom: what records need to be read is kept up even where the server takes no new keys.
local left = redis.call('PTTL', KEYS[1])
return redis.call('SET', KEYS[1], ARGV[1], 'PX', math.max(left, tonumber(ARGV[2])))
