-- Hands jobs to a worker: those that it has just read, those whose worker has not renewed its lease, and waiting ones.
-- ARGV: worker id, jobs at most beside those it has read, lease in ms or 0 to leave expired leases alone,
--       number of the last try or 0, then priority, entry and job id of each job that it has read
-- Returns for each job: id, how often it was handed out, server id, body, origin, ms in line by the clock of Redis. The
-- last try is not counted before begin.lua.
local worker, room, lease_ms, last_try = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local taken = {}
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function hand_over(stream, entry, id)
  if not id or not string.find(id, '^[\33-\126]+$') then
    remove(stream, entry)
    dead_letter('', 'an entry without a job id', worker)
    return
  end
  local job = find(id)
  if not job or job.entry ~= entry then
    -- The job has ended, or was put in line again; or something else lies in its place, which its server must not take
    -- for an open job.
    remove(stream, entry)
    if not job and redis.call('DEL', prefix .. 'job:' .. id) == 1 then
      dead_letter(id, 'what is stored of it is no job', worker)
    end
    return
  end
  local owner, deliveries = lease(stream, entry)
  if owner ~= worker then
    -- It slept after reading, and another has taken over.
    return
  end
  local tries = job.tries + deliveries
  if tries == last_try then
    set_deliveries(stream, entry, worker, deliveries - 1)
  end
  local body, origin = unpack(redis.call('HMGET', prefix .. 'job:' .. id, 'body', 'origin'))
  local waited_ms = now_ms - string.match(entry, '^%d+')
  taken[#taken + 1] = { id, tries, job.server, body or '', origin or '', waited_ms }
  room = room - 1
end

local function hand_over_all(stream, entries)
  for _, item in ipairs(entries) do
    if item then
      local id = nil
      for i = 1, #item[2], 2 do
        if item[2][i] == 'job' then
          id = item[2][i + 1]
        end
      end
      hand_over(stream, item[1], id)
    end
  end
end

local function read(stream)
  local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', room, 'STREAMS', stream, '>')
  if reply and reply.err then
    -- A new stream, or one that Redis has lost.
    redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
    redis.call('PEXPIRE', stream, STREAM_TTL_MS)
    reply = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', room, 'STREAMS', stream, '>')
  end
  return reply and reply[1][2] or {}
end

for i = 5, #ARGV, 3 do
  room = room + 1
  hand_over(jobs(ARGV[i]), ARGV[i + 1], ARGV[i + 2])
end
for _, priority in ipairs({ 'high', 'normal' }) do
  local stream = jobs(priority)
  if lease_ms > 0 and redis.call('EXISTS', stream) == 1 then
    -- One call looks at ten leases for each job that there is room for.
    local from = '0-0'
    repeat
      local claimed = room > 0 and redis.pcall('XAUTOCLAIM', stream, GROUP, worker, lease_ms, from, 'COUNT', room)
      if not claimed or claimed.err then
        break
      end
      from = claimed[1]
      hand_over_all(stream, claimed[2])
    until from == '0-0'
  end
end
for _, priority in ipairs({ 'high', 'normal' }) do
  if room > 0 then
    hand_over_all(jobs(priority), read(jobs(priority)))
  end
end
return taken
