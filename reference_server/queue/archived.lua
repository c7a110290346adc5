-- Posts and deletes are in the durable store: their keys may go once nobody needs them who looked there too early.
-- ARGV  seconds to keep and key, for each key
for i = 1, #ARGV, 2 do
  redis.call('EXPIRE', ARGV[i + 1], ARGV[i])
end
return #ARGV / 2
