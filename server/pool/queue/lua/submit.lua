-- Opens a job and puts it in line. Doing it again changes nothing, so a server may repeat it when an answer was lost.
-- ARGV: job id, server id, priority, body, cost, lease in ms, digest of shared states or '', their lifetime in ms, origin
-- Returns 'queued' and the number of jobs before it, which are those at work and those that wait with its priority or a
-- higher one; or 'ended', 'taken', 'states', which says that the shared states are missing.
local id, server, priority, body, cost = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local ahead = redis.call('XLEN', jobs('high'))
ahead = ahead + (priority == 'high' and held(jobs('normal')) or redis.call('XLEN', jobs('normal')))
local open = find(id)
if open then
  return { open.server == server and 'queued' or 'taken', ahead - 1 }
end
if redis.call('EXISTS', prefix .. 'outcome:' .. id) == 1 then
  return { 'ended', 0 }
end
local states = ARGV[7] ~= '' and prefix .. 'states:' .. ARGV[7]
if states and redis.call('EXISTS', states) == 0 then
  return { 'states', 0 }
end
-- The first write is one that Redis refuses when its memory is full, so a refused job leaves nothing behind.
local entry = redis.call('XADD', jobs(priority), '*', 'job', id, 'cost', cost)
redis.call('HSET', prefix .. 'job:' .. id,
  'server', server, 'priority', priority, 'entry', entry, 'tries', 0, 'cost', cost, 'body', body,
  'origin', ARGV[9])
redis.call('PEXPIRE', prefix .. 'job:' .. id, ARGV[6])
redis.call('PEXPIRE', jobs(priority), STREAM_TTL_MS)
if states then
  redis.call('PEXPIRE', states, ARGV[8])
end
return { 'queued', ahead }
