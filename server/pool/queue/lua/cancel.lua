-- Ends jobs that nobody wants any more, and tells the workers that hold them.
-- ARGV: server id, then the ids of its jobs; those of jobs that are another server's by now are left alone
for i = 2, #ARGV do
  local id = ARGV[i]
  local job = find(id)
  if not job or job.server == ARGV[1] then
    redis.call('DEL', prefix .. 'job:' .. id, prefix .. 'outcome:' .. id)
  end
  if job and job.server == ARGV[1] then
    local owner = lease(job.stream, job.entry)
    remove(job.stream, job.entry)
    if owner then
      redis.call('PUBLISH', prefix .. 'cancel:' .. owner, id)
    end
  end
end
