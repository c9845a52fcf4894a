-- How busy the pool is.
-- Returns the announcements of the living workers, the number of waiting jobs, the sum of their costs, and the number
-- of jobs that workers hold.
local COUNTED = 1000
local MAX_COST = 1e9

local function last_delivered(stream)
  local groups = redis.pcall('XINFO', 'GROUPS', stream)
  if groups.err or not groups[1] then
    return nil
  end
  local group = groups[1]
  for i = 1, #group, 2 do
    if group[i] == 'last-delivered-id' then
      return group[i + 1]
    end
  end
end

local waiting, cost, at_work = 0, 0, 0
for _, priority in ipairs({ 'high', 'normal' }) do
  local stream = jobs(priority)
  local after = last_delivered(stream)
  local entries = redis.call('XRANGE', stream, after and '(' .. after or '-', '+', 'COUNT', COUNTED)
  local seen = 0
  for _, item in ipairs(entries) do
    local jobs_cost = tonumber(item[2][4])
    if jobs_cost and jobs_cost > 0 and jobs_cost < MAX_COST then
      seen = seen + jobs_cost
    end
  end
  local pending = held(stream)
  local length = #entries
  if length == COUNTED then
    length = redis.call('XLEN', stream) - pending
    seen = seen * length / COUNTED
  end
  waiting, cost, at_work = waiting + length, cost + seen, at_work + pending
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local living = redis.call('ZRANGEBYSCORE', prefix .. 'workers', now, '+inf')
local announcements = {}
for _, worker in ipairs(living) do
  local announcement = redis.call('GET', prefix .. 'worker:' .. worker)
  if announcement then
    announcements[#announcements + 1] = announcement
  end
end
return { announcements, waiting, tostring(cost), at_work }
