-- Forgets workers that have gone without a goodbye and hold nothing.
-- ARGV: silence in ms after which a worker is forgotten
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', prefix .. 'workers', '-inf', '(' .. now)
for _, priority in ipairs({ 'high', 'normal' }) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', jobs(priority), GROUP)
  if not consumers.err then
    for _, flat in ipairs(consumers) do
      local consumer = {}
      for i = 1, #flat, 2 do
        consumer[flat[i]] = flat[i + 1]
      end
      if consumer.pending == 0 and consumer.idle > tonumber(ARGV[1]) then
        redis.call('XGROUP', 'DELCONSUMER', jobs(priority), GROUP, consumer.name)
      end
    end
  end
end
