-- One call of a RedisPacer: hears what its process has to report, hands out slots by Redis' clock.
--
-- KEYS: the bucket's state; its processes; when the last requests arrived, as many as a window may
-- hold; when those were sent that were accepted. ARGV: a report, as JSON; all its times are seconds
-- before the call or from it on, for the clocks of two machines share no epoch.
-- redis_script.py puts the constants in capitals before these lines.

local report = cjson.decode(ARGV[1])
local packed = redis.call('GET', KEYS[1])
local s = packed and cmsgpack.unpack(packed)
  or { next = 0, pause = 0, began = 0, quiet = 0, last = 0, ahead = 0, more = MORE, less = MORE }

-- The clock of a machine may be set back; a grid that lies an hour ahead would stop the fleet.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000 + s.ahead
if now < s.last then
  s.ahead = s.ahead + s.last - now
  now = s.last
end
s.last = now

-- What is told twice, where a reply of ours was lost, is still one member.
local function member(number)
  return report.id .. ':' .. number
end

local function keep(requests, per)
  s.requests, s.per = requests, per
end

local function accepted_in(start, stop)
  local after, to = string.format('(%.6f', start), string.format('%.6f', stop)
  return redis.call('ZCOUNT', KEYS[4], after, to)
end

-- What LearningPacer._window_of does: the window that explains the Retry-After, and how many were
-- accepted in it.
local function window_of(refused)
  local likely = { 1, 60, 3600, 86400 }
  if s.per then table.insert(likely, 1, s.per) end
  if s.announced then table.insert(likely, 1, s.announced[2]) end
  local first
  for _, per in ipairs(likely) do
    local sent, received = refused.sent, refused.received
    -- Of two processes the later to send may be the first to arrive, so that it was accepted: the
    -- window is taken at the end of the way as well.
    local requests = math.max(
      accepted_in(sent - per, sent), accepted_in(received - per, received))
    first = first or requests
    if refused.after and requests > 0 then
      local since = string.format('(%.6f', sent - per)
      local oldest =
        redis.call('ZRANGEBYSCORE', KEYS[4], since, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2]
      if math.abs(oldest + per - sent + 0.5 - refused.after) < EXPLAINS then
        -- Understood, so believed, even if the sessions' policy obeys no wait that long.
        s.next = math.max(s.next, received + refused.after)
        return per, requests
      end
    end
  end
  return likely[1], first
end

-- What LearningPacer._learn does, after the pause for the same reason: every process has then told
-- what it had under way.
local function learn(refused)
  local per, requests = window_of(refused)
  local known = s.before or s.requests
  local tried = s.before
  s.before, s.more = nil, MORE
  if not known or s.per ~= per then
    s.patience = math.max(FIRST_TRY, per, (refused.after or 0) / TRY_COST)
  elseif tried and requests >= 0.9 * known then
    s.patience = math.min(LONGEST_TRY, s.patience * 2)
    requests = known
  else
    local again = refused.sent - s.quiet < s.patience
    s.less = again and math.min(0.5, s.less * 2) or MORE
    requests = math.min(requests, math.floor(known * (1 - s.less)))
  end
  keep(math.max(1, requests), per)
end

local function is_announced(requests, per)
  return s.announced and s.announced[1] == requests and s.announced[2] == per
end

local function hear()
  for _, ended in ipairs(report.ended or {}) do
    if ended[3] then redis.call('ZADD', KEYS[4], now - ended[3], member(ended[1])) end
  end
  redis.call('ZREMRANGEBYRANK', KEYS[4], 0, -LOG - 1)
  if report.trip then s.trip = (s.trip or report.trip) * 0.9 + report.trip * 0.1 end
  local announced = report.announced
  if announced and not is_announced(announced[1], announced[2]) then
    s.announced, s.before = announced, nil
    keep(announced[1], announced[2])
  end
  if report.known and not s.requests then keep(report.known[1], report.known[2]) end
  for _, refused in ipairs(report.refused or {}) do
    local this = { sent = now - refused[1], received = now - refused[2], after = refused[3] }
    if this.sent >= s.began then -- not under way when another began the pause
      s.began, s.refused = this.received, this
    elseif s.refused and this.sent < s.refused.sent then
      s.refused = this
    end
  end
end

-- The limit that holds now, if one is known.
local function limit()
  if report.limit then return report.limit[1], report.limit[2] end
  s.patience = s.patience or FIRST_TRY
  hear()
  -- Unused time shows nothing about the limit: a nightly job does not begin with a try.
  if s.next < now - FIRST_TRY then s.quiet = now end
  if s.refused then
    if now >= s.pause then
      learn(s.refused)
      s.refused, s.quiet = nil, now
    end
  elseif s.requests and not is_announced(s.requests, s.per) and now - s.quiet >= s.patience then
    if s.before then -- nobody refused the last try
      s.more, s.patience = s.more * 2, math.max(FIRST_TRY, s.per)
    end
    s.before, s.quiet = s.requests, now
    keep(math.ceil(s.requests * (1 + s.more)), s.per)
  end
  return s.requests, s.per
end

local function arrived(number, at)
  redis.call('ZADD', KEYS[3], at, member(number))
end

-- What Slots.next does in one process: of the slots from `at` on, none before the request a whole
-- window of them earlier has arrived a window ago. The first and the last of a block stand for all.
local function after_window(at, slots, interval, room, per)
  for _, i in ipairs({ 0, slots - 1 }) do
    local newest = redis.call('ZREVRANGE', KEYS[3], room - 1 - i, room - 1 - i, 'WITHSCORES')[2]
    if newest then at = math.max(at, newest + per * (1 + PAD / 2) - i * interval) end
  end
  for i = 0, slots - 1 do arrived(report.number + i, at + i * interval) end -- till we hear more
  return at
end

s.pause = math.max(s.pause, now + (report.pause or 0))
redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now - SEEN)
redis.call('ZADD', KEYS[2], math.max(now, s.pause, s.next), report.id) -- its slot is about there
local processes = redis.call('ZCARD', KEYS[2])
local requests, per = limit()
local interval, most, room
if requests then
  room = math.max(1, math.floor(requests))
  interval = per / math.min(room, requests) * (1 + PAD)
  -- No more than its fair part, or whoever holds a large block would come by ever larger ones.
  most = BLOCK / interval / processes
else
  local risked = math.max(RISK, RISKED_SHARE * redis.call('ZCARD', KEYS[4]))
  interval = 1 / FIRST_RATE
  if s.trip and not s.refused then interval = math.min(interval, s.trip / risked) end
  -- What lies in blocks is risked as well: whoever holds one hears of a refusal only after it.
  most = math.min(BLOCK / interval, risked / 2) / processes
end

local counts = room and room <= LOG
if counts then
  for _, ended in ipairs(report.ended or {}) do arrived(ended[1], now - ended[2]) end
  redis.call('ZREMRANGEBYRANK', KEYS[3], 0, -room - 1)
end
local slots, at = report.slots, now
if slots > 0 then
  if now < s.pause then most = 1 end
  slots = math.max(1, math.min(slots, math.floor(most), room or slots))
  local catch_up = math.max(CATCH_UP, math.min(CATCH_UP_SLOTS * interval, 0.05 * (per or 0)))
  at = math.max(s.next > now - catch_up and s.next or now, s.pause)
  local grid = at
  if counts then at = after_window(at, slots, interval, room, per) end
  s.next = math.max(grid, at - catch_up) + slots * interval
end

redis.call('SET', KEYS[1], cmsgpack.pack(s), 'EX', KEPT)
for i = 2, 4 do redis.call('EXPIRE', KEYS[i], KEPT) end
return cjson.encode({
  slots = slots,
  wait = at - now,
  interval = interval,
  pause = s.pause - now,
  processes = processes,
  limit = requests and { requests, per } or nil,
  known = s.before,
})
