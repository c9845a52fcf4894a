-- Puts a job that its worker will not finish back in line, before all that has not begun.
-- ARGV: worker id, job id, 1 if the try counts, else 0
-- Returns 1, or 0 if the worker does not hold it any more.
local worker, id = ARGV[1], ARGV[2]
local job = find(id)
if not job then
  return 0
end
local owner, deliveries = lease(job.stream, job.entry)
if owner ~= worker then
  return 0
end
local tries = job.tries + deliveries - 1 + tonumber(ARGV[3])
remove(job.stream, job.entry)
local entry = redis.call('XADD', jobs('high'), '*', 'job', id, 'cost', job.cost)
redis.call('PEXPIRE', jobs('high'), STREAM_TTL_MS)
redis.call('HSET', prefix .. 'job:' .. id, 'priority', 'high', 'entry', entry, 'tries', tries)
return 1
