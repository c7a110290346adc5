-- Hide, moderate or show one post. A delete wins over all of it, else the latest clock.
-- KEYS  1 status:{hex}  2 deleted:{hex}  3 stream  4 outbox
-- ARGV  1 encoded event  2 hybrid clock, 20 digits  3 status  4 stream limit  5 outbox limit
--       6 status of a post that its author may not change ('': any change is allowed)
-- Reply {'done'} | {'deleted'} | {'refused', known status} | {'late', known clock}
if redis.call('EXISTS', KEYS[2]) == 1 then
  return {'deleted', ''}
end
local known = redis.call('GET', KEYS[1])
local hidden = '0'
if known then
  local clock, status = string.sub(known, 1, 20), string.sub(known, 22, 22)
  hidden = string.sub(known, 24, 24)
  if ARGV[6] ~= '' and status == ARGV[6] then
    return {'refused', status}
  end
  if clock >= ARGV[2] then
    return {'late', clock}
  end
end
if redis.call('XLEN', KEYS[3]) >= tonumber(ARGV[4]) or redis.call('XLEN', KEYS[4]) >= tonumber(ARGV[5]) then
  return redis.error_reply('BACKPRESSURE stream is full')
end
if ARGV[3] < '2' then
  hidden = ARGV[3]
end
redis.call('SET', KEYS[1], ARGV[2] .. ':' .. ARGV[3] .. ':' .. hidden)
redis.call('XADD', KEYS[3], '*', 'e', ARGV[1])
redis.call('XADD', KEYS[4], '*', 'e', ARGV[1])
return {'done', ''}
