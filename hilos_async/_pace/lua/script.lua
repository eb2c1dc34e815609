-- What a process told, what it wants and what it is answered.

if report.limit then
  s.learns, s.sure = false, true
  s.requests, s.per = report.limit[1], report.limit[2]
else
  s.learns = true
  if report.known and s.requests == 0 then
    s.sure = true
    keep(report.known[1], report.known[2])
  end
end
local events, number = report.events or {}, report.number or 1
local heard = s.heard[report.id] or 0
for nth, event in ipairs(events) do
  if number + nth - 1 <= heard then
    -- A reply of ours was lost, and this is told twice.
  elseif event.verdict then
    event.sent, event.received = now - event.sent, now - event.received
    event.spread = event.spread or 0
    hear_reply(event)
  else
    left(now - event.sent)
  end
end

s.heard[report.id] = max(heard, number + #events - 1)

if redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now - SEEN) > 0 then
  for id in pairs(s.heard) do
    if id ~= report.id and not redis.call('ZSCORE', KEYS[2], id) then s.heard[id] = nil end
  end
end
redis.call('ZADD', KEYS[2], max(now, s.till, s.next), report.id) -- its slot is about there
local processes = redis.call('ZCARD', KEYS[2])
local most = 1
if s.requests > 0 and not s.probing then
  -- No more than its fair part, or whoever holds a large block would come by ever larger ones.
  most = max(1, min(floor(BLOCK / interval() / processes), bound_of(s.requests)))
end
local waits = {}
for nth = 1, min(report.slots, most) do
  local at = reserve()
  if not at then break end
  waits[nth] = string.format('%.17g', at - now)
end

redis.call('SET', KEYS[1], cmsgpack.pack(s), 'EX', KEPT)
redis.call('EXPIRE', KEYS[2], KEPT)
local known = s.requests > 0
return cjson.encode({
  waits = #waits > 0 and waits or nil,
  again = max(0.005, min(0.1, trip())),
  interval = known and interval() or FIRST_GAP,
  pause = s.till - now,
  processes = processes,
  limit = known and { s.requests, s.per } or nil,
  known = s.before > 0 and s.before or nil,
})
