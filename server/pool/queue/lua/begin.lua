-- Counts a try that take.lua has not counted: from now on the job may be what kills its worker.
-- ARGV: worker id, job id
-- Returns 1, or 0 if the worker does not hold the job any more.
local job = find(ARGV[2])
if not job then
  return 0
end
local owner, deliveries = lease(job.stream, job.entry)
if owner ~= ARGV[1] then
  return 0
end
set_deliveries(job.stream, job.entry, owner, deliveries + 1)
return 1
