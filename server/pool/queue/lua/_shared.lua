-- Goes before every script. KEYS[1] is the prefix of all names: they share a hash tag, so one key routes the script.
local prefix = KEYS[1]
local GROUP = 'workers'

-- Streams hold what is at work; a pool that nobody uses any more is forgotten after a day.
local STREAM_TTL_MS = 86400000
local DEAD_TTL_MS = 7 * 86400000
local DEAD_LENGTH = 1000
-- A server that reads nothing for so long loses progress and previews. It finds outcomes all the same, by their keys.
local REPLIES_LENGTH = 2000

local function jobs(priority)
  return prefix .. 'jobs:' .. priority
end

-- An open job; nil if it has ended. What was not written by submit.lua counts as ended, whatever it is.
local function find(id)
  local found = redis.pcall('HMGET', prefix .. 'job:' .. id, 'server', 'priority', 'entry', 'tries', 'cost')
  if found.err then
    return nil
  end
  local server, priority, entry, tries, cost = unpack(found)
  local whole = server and string.find(server, '^[\33-\126]+$')
    and (priority == 'high' or priority == 'normal')
    and entry and string.find(entry, '^%d+%-%d+$')
    and tries and #tries < 10 and string.find(tries, '^%d+$')
    and cost
  if not whole then
    return nil
  end
  return { server = server, stream = jobs(priority), entry = entry, tries = tonumber(tries), cost = cost }
end

-- Who holds a job, and how often it was handed out.
local function lease(stream, entry)
  -- There is no group before the first worker has come.
  local pending = redis.pcall('XPENDING', stream, GROUP, entry, entry, 1)
  if not pending.err and pending[1] then
    return pending[1][2], tonumber(pending[1][4])
  end
  return nil, 0
end

-- Say how often a job was handed out. Its lease is renewed by that.
local function set_deliveries(stream, entry, owner, deliveries)
  redis.call('XCLAIM', stream, GROUP, owner, 0, entry, 'RETRYCOUNT', deliveries, 'JUSTID')
end

-- Number of the jobs of a stream that workers hold.
local function held(stream)
  local pending = redis.pcall('XPENDING', stream, GROUP)
  return pending.err and 0 or pending[1]
end

-- Take an entry off its stream.
local function remove(stream, entry)
  redis.call('XACK', stream, GROUP, entry)
  redis.call('XDEL', stream, entry)
end

local function tell(server, message)
  redis.call('XADD', prefix .. 'replies:' .. server, 'NOMKSTREAM', 'MAXLEN', '~', REPLIES_LENGTH, '*', 'm', message)
end

local function dead_letter(id, reason, worker)
  local dead = prefix .. 'dead'
  redis.call('XADD', dead, 'MAXLEN', '~', DEAD_LENGTH, '*', 'job', id, 'reason', reason, 'worker', worker)
  redis.call('PEXPIRE', dead, DEAD_TTL_MS)
end
