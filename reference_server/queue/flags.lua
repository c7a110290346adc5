-- Set one flag, unless a later setting is known.
-- KEYS  1 flags  2 flags:version  3 outbox
-- ARGV  1 name  2 hybrid clock, 20 digits  3 value as JSON  4 encoded event ('' when it came from a peer)
-- Reply 1, or 0 when a later setting is there
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known and string.sub(known, 1, 20) >= ARGV[2] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ':' .. ARGV[3])
redis.call('INCR', KEYS[2])
if ARGV[4] ~= '' then
  redis.call('XADD', KEYS[3], '*', 'e', ARGV[4])
end
return 1
