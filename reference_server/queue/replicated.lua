-- Apply a batch of a peer's events and its high-water mark, all or nothing.
-- KEYS  1 hwm:{origin}  2 posts  3 celeb  4 graph  5 jobs  6 clock:graph
-- ARGV  1 position  2 stream limit  3 TTL of a join mark (s), then 4 a event: kind, stream number, encoded event, detail
--       kind p: detail = post id hex | d: post id hex | g: time of the hybrid clock (us)
--       | j: the same, "|", user number, "|", encoded import
--       | s: hybrid clock (20 digits), ":", status, ":", post id hex
--       | f: hybrid clock (20 digits) and name of a flag, whose value is in place of the event
-- A post that arrives after its delete gets no body; it is queued all the same, its consumers know the delete.
-- So are changes of status: their consumers choose the latest.
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
local known = tonumber(redis.call('GET', KEYS[6]) or '-1')
local latest = known
for i = 4, #ARGV, 4 do
  local kind, stream, event, detail = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  if kind ~= 'f' then
    redis.call('XADD', KEYS[stream], '*', 'e', event)
  end
  if kind == 'g' or kind == 'j' then
    latest = math.max(latest, tonumber(string.match(detail, '^%d+')))
  end
  if kind == 'p' then
    if redis.call('EXISTS', 'deleted:' .. detail) == 0 then
      redis.call('SET', 'body:' .. detail, event)
    end
  elseif kind == 'd' then
    redis.call('SET', 'deleted:' .. detail, '1')
    redis.call('DEL', 'body:' .. detail)
  elseif kind == 's' then
    local clock, status, post = string.sub(detail, 1, 20), string.sub(detail, 22, 22), string.sub(detail, 24)
    local known = redis.call('GET', 'status:' .. post)
    if not known or string.sub(known, 1, 20) < clock then
      local hidden = status
      if status >= '2' then
        hidden = known and string.sub(known, 24, 24) or '0'
      end
      redis.call('SET', 'status:' .. post, clock .. ':' .. status .. ':' .. hidden)
    end
  elseif kind == 'f' then
    local clock, name = string.sub(detail, 1, 20), string.sub(detail, 21)
    local known = redis.call('HGET', 'flags', name)
    if not known or string.sub(known, 1, 20) < clock then
      redis.call('HSET', 'flags', name, clock .. ':' .. event)
      redis.call('INCR', 'flags:version')
    end
  elseif kind == 'j' then
    local first = string.find(detail, '|', 1, true)
    local cut = string.find(detail, '|', first + 1, true)
    local joined = 'join:' .. string.sub(detail, first + 1, cut - 1)
    if redis.call('SET', joined, '1', 'NX', 'EX', ARGV[3]) then
      redis.call('XADD', KEYS[5], '*', 'e', string.sub(detail, cut + 1))
    end
  end
end
if latest > known then
  redis.call('SET', KEYS[6], string.format('%.0f', latest))
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
