-- Ends a job with an outcome, whoever holds it by now: the first outcome counts, and all are the same picture.
-- ARGV: job id, outcome, its lifetime in ms, message to the server, worker id, reason for the dead-letter stream or ''
-- Returns 1, or 0 if the job had ended before.
local id = ARGV[1]
local job = find(id)
if not job then
  return 0
end
-- The first write is one that Redis refuses when its memory is full: the job is then still open.
redis.call('SET', prefix .. 'outcome:' .. id, ARGV[2], 'PX', ARGV[3])
redis.call('DEL', prefix .. 'job:' .. id)
remove(job.stream, job.entry)
tell(job.server, ARGV[4])
if ARGV[6] ~= '' then
  dead_letter(id, ARGV[6], ARGV[5])
end
return 1
