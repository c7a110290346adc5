-- Apply a batch of a peer's events and its high-water mark, all or nothing.
-- KEYS  1 hwm:{origin}  2 posts  3 celeb  4 graph  5 jobs
-- ARGV  1 position  2 stream limit  3 TTL of a join mark (s), then 4 a event: kind, stream number, encoded event, detail
--       kind p: detail = post id hex | d: post id hex | g: '' | j: user number, "|", encoded import
-- A post that arrives after its delete gets no body; it is queued all the same, its consumers know the delete.
-- Reply 1, or 0 when the position was already reached
local function parts(id)
  local cut = string.find(id, '-', 1, true)
  return tonumber(string.sub(id, 1, cut - 1)), tonumber(string.sub(id, cut + 1))
end
local mark = redis.call('GET', KEYS[1])
if mark then
  local ms, seq = parts(mark)
  local new_ms, new_seq = parts(ARGV[1])
  if new_ms < ms or (new_ms == ms and new_seq <= seq) then
    return 0
  end
end
for stream = 2, 4 do
  if redis.call('XLEN', KEYS[stream]) >= tonumber(ARGV[2]) then
    return redis.error_reply('BACKPRESSURE stream is full')
  end
end
for i = 4, #ARGV, 4 do
  local kind, stream, event, detail = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  redis.call('XADD', KEYS[stream], '*', 'e', event)
  if kind == 'p' then
    if redis.call('EXISTS', 'deleted:' .. detail) == 0 then
      redis.call('SET', 'body:' .. detail, event)
    end
  elseif kind == 'd' then
    redis.call('SET', 'deleted:' .. detail, '1')
    redis.call('DEL', 'body:' .. detail)
  elseif kind == 'j' then
    local cut = string.find(detail, '|', 1, true)
    local joined = 'join:' .. string.sub(detail, 1, cut - 1)
    if redis.call('SET', joined, '1', 'NX', 'EX', ARGV[3]) then
      redis.call('XADD', KEYS[5], '*', 'e', string.sub(detail, cut + 1))
    end
  end
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
