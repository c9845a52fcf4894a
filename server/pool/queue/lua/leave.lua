-- A worker leaves: it is announced no more, and is a member of the groups no more unless jobs are still in its name.
-- ARGV: worker id
local worker = ARGV[1]
redis.call('ZREM', prefix .. 'workers', worker)
redis.call('DEL', prefix .. 'worker:' .. worker)
for _, priority in ipairs({ 'high', 'normal' }) do
  local pending = redis.pcall('XPENDING', jobs(priority), GROUP, '-', '+', 1, worker)
  if not pending.err and not pending[1] then
    redis.call('XGROUP', 'DELCONSUMER', jobs(priority), GROUP, worker)
  end
end
