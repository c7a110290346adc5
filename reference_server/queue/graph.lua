-- Append one change of the graph; a sign-up also queues the import of the inherited follows, once.
-- KEYS  1 graph  2 outbox  3 jobs  4 join:{user}
-- ARGV  1 encoded event  2 graph limit  3 outbox limit  4 encoded import ('' unless a sign-up)  5 TTL of the join mark (s)
-- Reply the id in the graph stream; '' when this sign-up was already queued
local join = ARGV[4] ~= ''
if join and redis.call('EXISTS', KEYS[4]) == 1 then
  return ''
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) or redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[3]) then
  return redis.error_reply('BACKPRESSURE stream is full')
end
local id = redis.call('XADD', KEYS[1], '*', 'e', ARGV[1])
redis.call('XADD', KEYS[2], '*', 'e', ARGV[1])
if join then
  redis.call('SET', KEYS[4], '1', 'EX', ARGV[5])
  redis.call('XADD', KEYS[3], '*', 'e', ARGV[4])
end
return id
