-- Accept one post: idempotency, monotone author time, queue, outbox, body, recent ids. The reply is the acknowledgement.
-- KEYS  1 idem:{author}:{key}  2 author:{author}  3 recent:{author}  4 body:{hex}  5 stream  6 outbox
-- ARGV  1 encoded event  2 offset of its 8-byte timestamp  3 now (us)  4 post id hex  5 idem TTL (s; 0: no key given)
--       6 stream limit  7 outbox limit  8 recent ids kept  9 recent TTL (s)  10 lose every n-th post (0: none)
-- Reply {post id hex, timestamp, 1 when the key was already used}
local keyed = ARGV[5] ~= '0'
if keyed then
  local known = redis.call('GET', KEYS[1])
  if known then
    local cut = string.find(known, ':', 1, true)
    return {string.sub(known, 1, cut - 1), string.sub(known, cut + 1), 1}
  end
end
if redis.call('XLEN', KEYS[5]) >= tonumber(ARGV[6]) or redis.call('XLEN', KEYS[6]) >= tonumber(ARGV[7]) then
  return redis.error_reply('BACKPRESSURE stream is full')
end
local last = tonumber(redis.call('HGET', KEYS[2], 'last') or '0')
local now = math.max(tonumber(ARGV[3]), last + 1)
local ts = string.format('%.0f', now)
redis.call('HSET', KEYS[2], 'last', ts)
if ARGV[10] ~= '0' and redis.call('INCR', 'defect:accepted') % tonumber(ARGV[10]) == 0 then
  return {ARGV[4], ts, 0}
end
local offset = tonumber(ARGV[2])
local event = string.sub(ARGV[1], 1, offset) .. struct.pack('>I8', now) .. string.sub(ARGV[1], offset + 9)
redis.call('XADD', KEYS[5], '*', 'e', event)
redis.call('XADD', KEYS[6], '*', 'e', event)
redis.call('SET', KEYS[4], event)
redis.call('LPUSH', KEYS[3], ts .. ':' .. ARGV[4])
redis.call('LTRIM', KEYS[3], 0, tonumber(ARGV[8]) - 1)
redis.call('EXPIRE', KEYS[3], ARGV[9])
if keyed then
  redis.call('SET', KEYS[1], ARGV[4] .. ':' .. ts, 'EX', ARGV[5])
end
return {ARGV[4], ts, 0}
