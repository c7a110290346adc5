-- Take one post back.
-- KEYS  1 deleted:{hex}  2 body:{hex}  3 recent:{author}  4 stream  5 outbox
-- ARGV  1 encoded event  2 "{ts_us}:{hex}"  3 stream limit  4 outbox limit
-- Reply 1, or 0 when it was already deleted
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 0
end
if redis.call('XLEN', KEYS[4]) >= tonumber(ARGV[3]) or redis.call('XLEN', KEYS[5]) >= tonumber(ARGV[4]) then
  return redis.error_reply('BACKPRESSURE stream is full')
end
redis.call('SET', KEYS[1], '1')
redis.call('DEL', KEYS[2])
redis.call('LREM', KEYS[3], 0, ARGV[2])
redis.call('XADD', KEYS[4], '*', 'e', ARGV[1])
redis.call('XADD', KEYS[5], '*', 'e', ARGV[1])
return 1
