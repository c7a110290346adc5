-- Append one change of the graph; a sign-up also queues the import of the inherited follows, once.
-- KEYS  1 graph  2 outbox  3 jobs  4 join:{user}  5 clock:graph
-- ARGV  1 encoded event  2 graph limit  3 outbox limit  4 encoded import ('' unless a sign-up)  5 TTL of the join mark (s)
--       6 offset of the event's 8-byte hybrid clock  7 the clock's time (us)
-- The clock is raised above the latest one known here, so that of two changes the one made later wins.
-- Reply {id in the graph stream ('' when this sign-up was already queued), time (us) of the clock it was given}
local join = ARGV[4] ~= ''
if join and redis.call('EXISTS', KEYS[4]) == 1 then
  return {'', ARGV[7]}
end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) or redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[3]) then
  return redis.error_reply('BACKPRESSURE stream is full')
end
local known = tonumber(redis.call('GET', KEYS[5]) or '-1')
local time_us = math.max(tonumber(ARGV[7]), known + 1)
local text, event = string.format('%.0f', time_us), ARGV[1]
if text ~= ARGV[7] then
  local offset = tonumber(ARGV[6])
  event = string.sub(event, 1, offset) .. string.sub(struct.pack('>I8', time_us), 2) .. string.sub(event, offset + 8)
end
redis.call('SET', KEYS[5], text)
local id = redis.call('XADD', KEYS[1], '*', 'e', event)
redis.call('XADD', KEYS[2], '*', 'e', event)
if join then
  redis.call('SET', KEYS[4], '1', 'EX', ARGV[5])
  redis.call('XADD', KEYS[3], '*', 'e', ARGV[4])
end
return {id, text}
