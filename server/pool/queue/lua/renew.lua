-- Renews a worker's announcement and its leases.
-- ARGV: worker id, announcement, its lifetime in ms, then the ids of the jobs that the worker holds
-- Returns the ids of those that it does not hold any more: ended, cancelled, or taken over by another worker.
local worker, ttl = ARGV[1], tonumber(ARGV[3])
local lost = {}
for i = 4, #ARGV do
  local job = find(ARGV[i])
  if job and lease(job.stream, job.entry) == worker then
    -- JUSTID sets the idle time back without counting a delivery.
    redis.call('XCLAIM', job.stream, GROUP, worker, 0, job.entry, 'JUSTID')
    redis.call('PEXPIRE', job.stream, STREAM_TTL_MS)
  else
    lost[#lost + 1] = ARGV[i]
  end
end
local time = redis.call('TIME')
redis.call('ZADD', prefix .. 'workers', time[1] * 1000 + math.floor(time[2] / 1000) + ttl, worker)
redis.call('PEXPIRE', prefix .. 'workers', STREAM_TTL_MS)
redis.call('SET', prefix .. 'worker:' .. worker, ARGV[2], 'PX', ttl)
return lost
