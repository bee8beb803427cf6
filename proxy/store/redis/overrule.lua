#!lua flags=allow-oom
-- KEYS[1] where the record lies   ARGV[1] the token of the attempt that is overruled   ARGV[2] the ruling; empty: none
-- ARGV[3], ARGV[4] the lease and the retention of that attempt in ms: its token says that they are the record's, too
-- Byte 2 is the state, bytes 3 to 18 are the token (proxy/store/codec.py). Returns 1, nil where nothing is there, or the record that stands against it.
local old, new = redis.call('GET', KEYS[1]), ARGV[2]
if not old then
  return false
end
local token, state = string.sub(old, 3, 18), string.sub(old, 2, 2)
if new ~= '' and token == string.sub(new, 3, 18) then
  redis.call('SET', KEYS[1], old, 'KEEPTTL') -- so that who waits behind it waits for this
  return 1
end
if token ~= ARGV[1] or state == 'c' or tonumber(ARGV[4]) - redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  return old
end
if new == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], new, 'KEEPTTL')
end
return 1
