-- Takes a job that its worker cannot begin out of line, as if Redis had lost it: its server submits it again.
-- ARGV: worker id, job id
local job = find(ARGV[2])
if job and lease(job.stream, job.entry) == ARGV[1] then
  redis.call('DEL', prefix .. 'job:' .. ARGV[2])
  remove(job.stream, job.entry)
end
