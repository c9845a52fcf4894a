-- Renews what keeps a server's jobs open, and finds those that have ended without the server's hearing of it.
-- ARGV: server id, lifetime of its reply stream in ms, id of the last reply that it has read,
--       then id and lease in ms of each of its jobs
-- Returns whether the reply stream had to be made, the ids of jobs with an outcome, the ids of jobs that are gone.
local replies = prefix .. 'replies:' .. ARGV[1]
local made = 0
if redis.call('PEXPIRE', replies, ARGV[2]) == 0 then
  redis.call('XADD', replies, 'MAXLEN', 0, '*', 'm', '')
  redis.call('PEXPIRE', replies, ARGV[2])
  made = 1
else
  redis.call('XTRIM', replies, 'MINID', ARGV[3])
end
local ended, gone = {}, {}
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  if redis.call('PEXPIRE', prefix .. 'job:' .. id, ARGV[i + 1]) == 0 then
    if redis.call('EXISTS', prefix .. 'outcome:' .. id) == 1 then
      ended[#ended + 1] = id
    else
      gone[#gone + 1] = id
    end
  end
end
return { made, ended, gone }
