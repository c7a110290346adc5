-- Posts and deletes are in the durable store: their keys may go once readers that looked there too early are done.
-- ARGV  1 seconds to keep, then keys
for i = 2, #ARGV do
  redis.call('EXPIRE', ARGV[i], ARGV[1])
end
return #ARGV - 1
