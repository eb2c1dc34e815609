-- The reckoning of a pace, a second time: what slots.py, limits.py and reckoning.py do, on a state that
-- Redis keeps, by Redis' clock. A test feeds both the same histories and wants the same slots.
--
-- KEYS: the state; the processes that share it. ARGV: a report, as JSON; all its times are seconds
-- before the call, for the clocks of two machines share no epoch.
-- redis_script.py puts the constants in capitals before these lines.

local max, min, floor, ceil, abs, insert, remove =
  math.max, math.min, math.floor, math.ceil, math.abs, table.insert, table.remove
local huge = math.huge

local report = cjson.decode(ARGV[1])
local packed = redis.call('GET', KEYS[1])
local s = packed and cmsgpack.unpack(packed) or {
  learns = true, requests = 0, per = 1, next = 0, pad = 0, padded = 0, ease = 0,
  reserved = {}, flying = {}, replies = {}, fastest = huge, fastest_before = huge, recent = 0,
  till = 0, began = 0, in_a_row = 0, probing = false, probe = 0, probe_left = false,
  first = 0, log = {}, logged = 0, accepted = 0, emptied = 0, since = 0,
  flows = false, sure = false, low = 0, high = 0, mean = 0, seen = 0, before = 0,
  more = MORE, less = MORE, patience = FIRST_TRY, stepped = 0, stepped_at = 0, waited = 0,
  announced = 0, announced_per = 0, named = 0, trusts_remaining = true, last = 0, ahead = 0, heard = {},
}

-- The clock of a machine may be set back; a grid that lies an hour ahead would stop the fleet.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000 + s.ahead
if now < s.last then
  s.ahead = s.ahead + s.last - now
  now = s.last
end
s.last = now

-- state.py

-- The first index of a sorted list whose entry is greater than (`after`) or not less than `at`.
local function place(list, at, after)
  local low, high = 1, #list + 1
  while low < high do
    local middle = floor((low + high) / 2)
    if list[middle] < at or (after and list[middle] == at) then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

local function insort(list, at)
  insert(list, place(list, at, true), at)
end

local function take_nearest(list, at)
  if #list == 0 then return end
  local nth = place(list, at, false)
  if nth == #list + 1 or (nth > 1 and at - list[nth - 1] <= list[nth] - at) then nth = nth - 1 end
  remove(list, nth)
end

local function log_accepted(sent, received)
  insert(s.log, { sent, received, 1 })
  s.logged = s.logged + 1
  if s.logged < COMPACT_EVERY then return end
  s.logged = 0
  local merged = {}
  for _, entry in ipairs(s.log) do
    if entry[2] >= received - KEPT_LOG then
      local last = merged[#merged]
      if last and entry[2] - last[1] <= (received - entry[2]) / COARSE then
        merged[#merged] = { min(last[1], entry[1]), entry[2], last[3] + entry[3] }
      else
        insert(merged, entry)
      end
    end
  end
  while #merged > LOG_BOUND do remove(merged, 1) end
  s.log = merged
end

local function count(per, sent, received)
  local least, most, oldest = 0, 0, received
  for _, entry in ipairs(s.log) do
    if entry[2] > received - per and entry[1] < received then
      most = most + entry[3]
      oldest = min(oldest, entry[1])
      if entry[1] > received - per and entry[2] <= sent then least = least + entry[3] end
    end
  end
  return { least = least, most = most, oldest = oldest, is_whole = oldest > received - per }
end

local function remember_trip(took)
  s.recent = s.recent + 1
  if s.recent > RECENT then
    s.recent = 0
    s.fastest_before, s.fastest = s.fastest, huge
  end
  s.fastest = min(s.fastest, took)
end

-- slots.py

local function interval()
  return s.per / s.requests * (1 + PADS[s.pad + 1])
end

local function trip()
  local fastest = min(s.fastest, s.fastest_before)
  return fastest < huge and fastest or 0
end

local function bound_of(requests)
  return min(BOUND, max(1, ceil(requests - 1e-9)))
end

local function next_slot()
  local requests, per, grid = s.requests, s.per, s.next
  local gap = per / requests * (1 + PADS[s.pad + 1])
  local catch_up = 0
  if s.sure and s.pad == 0 then
    catch_up = max(CATCH_UP, min(CATCH_UP_SLOTS * gap, 0.05 * per))
  end
  s.waited = grid > now - max(catch_up, CATCH_UP) and s.waited + 1 or 0
  if grid <= now - catch_up then grid = now end
  local at = grid
  local bound = bound_of(requests)
  local nth = bound - #s.flying - #s.reserved
  if nth <= 0 then
    if -nth < #s.flying then
      at = max(at, s.flying[1 - nth] + bound * per / requests * A_LITTLE_MORE)
    end
  elseif nth <= #s.replies then
    at = max(at, s.replies[#s.replies + 1 - nth] - trip() + bound * per / requests * A_LITTLE_MORE)
  end
  s.next = max(grid, at - (catch_up > 0 and BOUND_CATCH_UP * per or 0)) + gap
  return at
end

local function left(at)
  if #s.reserved > 0 then remove(s.reserved, max(1, place(s.reserved, at, true) - 1)) end
  insort(s.flying, at)
  if s.probing and at >= s.began then s.probe, s.probe_left = at, true end
  if s.first == 0 then s.first = at end
  if s.requests > 0 and (s.pad > 0 or not s.sure) then s.next = max(s.next, at + interval()) end
end

local function replied(reply)
  take_nearest(s.flying, reply.sent)
  if reply.verdict == 'accepted' then remember_trip(reply.received - reply.sent) end
  if s.requests > 0 and (reply.verdict == 'accepted' or reply.verdict == 'failed') then
    insort(s.replies, min(reply.received, reply.sent + trip() + LATEST * s.per))
    while #s.replies > bound_of(s.requests) do remove(s.replies, 1) end
  end
end

local function forget_lost()
  while #s.reserved > 0 and s.reserved[1] < now - UNUSED do remove(s.reserved, 1) end
  while #s.flying > 0 and s.flying[1] < now - max(SILENT, s.per) do remove(s.flying, 1) end
  if s.probe ~= 0 and s.probe < now - (s.probe_left and SILENT or UNUSED) then s.probe = 0 end
end

local function blind(received)
  local times = s.in_a_row - 1
  local gap = s.requests > 0 and interval() or 0
  if s.requests > 0 and s.flows then
    return min(LONGEST_BLIND, max(0.01, gap) * 2 ^ min(times, 12))
  end
  local wait = (s.requests > 0 and max(0.01, gap) or FIRST_BLIND) * 4 ^ min(times, 12)
  if s.requests > 0 then
    return min(wait, s.per * 2 ^ max(0, times - 4), max(LONGEST_BLIND, s.per))
  end
  if times >= 2 then
    for _, reset in ipairs(RESETS) do
      local ends = s.first + reset + 0.02 - received
      if 0.4 * wait < ends and ends < 1.6 * wait then return ends end
    end
  end
  return min(wait, LONGEST_BLIND)
end

local function pause(reply)
  s.in_a_row = s.in_a_row + 1
  local wait
  if reply.wait then
    wait = reply.wait
  elseif reply.verdict == 'busy' then
    wait = min(BUSY, 2 ^ min(s.in_a_row - 1, 30))
  elseif reply.quota and (reply.quota.reset or 0) > 0 then
    wait = reply.quota.reset
  else
    wait = blind(reply.received)
  end
  s.began = reply.received
  s.till = max(s.till, reply.received + wait * (1 + 0.02 * reply.spread))
  s.probing, s.probe = true, 0
end

local function go_on(received)
  s.probing, s.probe, s.in_a_row, s.first, s.waited = false, 0, 0, 0, 0
  s.next = max(s.next, received + (s.requests > 0 and interval() or 0))
end

local function widen(received)
  if s.pad == #PADS - 1 or (s.learns and not s.flows and s.pad == 2) then return false end
  if received - s.padded < EASES_AFTER * 2 ^ s.ease and s.padded ~= 0 then
    s.ease = min(LONGEST_EASE, s.ease + 1)
  end
  s.pad, s.padded = s.pad + 1, received
  return true
end

local function ease()
  if now - s.padded >= EASES_AFTER * 2 ^ s.ease then s.pad, s.padded = s.pad - 1, now end
end

-- limits.py

local function keep(requests, per)
  s.stepped_at = s.accepted
  s.requests, s.per = max(requests, 1e-6), per
  s.waited = 0
end

local function is_round(requests)
  local digits = string.gsub(string.format('%.0f', requests), '0+$', '')
  return digits == '1' or digits == '2' or digits == '25' or digits == '3' or digits == '5'
    or digits == '6'
end

local function likely(least, most)
  if s.named > 0 and 0.8 * least <= s.named and s.named <= 1.25 * most then return s.named end
  if most < 10 then return most end
  for _, step in ipairs(ROUND) do
    local rounded = floor(most / step) * step
    if rounded >= max(least, 1) and step <= most / 2 then return rounded end
  end
  return floor(most) >= least and floor(most) or most
end

local function let_through(counted)
  return max(1, likely(counted.is_whole and counted.most or counted.least, counted.most))
end

local function explained(refusal)
  if not refusal.retry_after then return nil end
  local candidates = {}
  if s.announced_per > 0 then insert(candidates, s.announced_per) end
  if s.requests > 0 then insert(candidates, s.per) end
  for _, per in ipairs(WINDOWS) do insert(candidates, per) end
  for _, per in ipairs(candidates) do
    local counted = count(per, refusal.sent, refusal.received)
    for _, begin in ipairs({ counted.oldest, max(counted.oldest, s.first) }) do
      local wait = begin + per - refusal.sent
      if counted.most > 0 and abs(wait + 0.5 - refusal.retry_after) < EXPLAINS then return per end
    end
  end
  return nil
end

local function forget_bounds()
  s.low, s.high, s.before, s.mean, s.seen = 0, 0, 0, 0, 0
end

local function learn_window(refusal, per)
  local requests = let_through(count(per, refusal.sent, refusal.received))
  local cost = refusal.retry_after or 0
  s.patience = max(FIRST_TRY, per, cost / TRY_COST)
  s.flows = false
  local is_likely = (requests >= 10 and is_round(requests)) or requests == s.named
  local is_usual = per == s.announced_per
  for _, usual in ipairs(WINDOWS) do is_usual = is_usual or per == usual end
  s.sure = cost > CHEAP or (is_likely and is_usual)
  forget_bounds()
  keep(requests, per)
end

local function window_between(least, most)
  for _, list in ipairs({ WINDOWS, OTHERS }) do
    for _, per in ipairs(list) do
      if least <= per * 1.02 and per <= most then return per end
    end
  end
  return least > WINDOWS[1] and most or nil
end

local function learn_first(refusal, accepted)
  local begin = s.first ~= 0 and s.first or refusal.sent
  local window = window_between(refusal.last - begin, accepted - begin)
  local soon = accepted - refusal.received
  if s.announced_per > 0 then
    window = s.announced_per
  elseif refusal.retry_after then
    window = WINDOWS[1]
  end
  if window then return learn_window(refusal, window) end
  local counted = count(accepted - begin, refusal.sent, refusal.received)
  local rate = 1 / max(soon, 1e-3)
  if counted.most >= 3 then
    local fast = counted.most / max(1e-3, refusal.received - counted.oldest)
    rate = max(rate, min(fast, 3 * rate))
  end
  s.patience = CHEAP_TRY
  s.flows, s.sure = true, false
  forget_bounds()
  keep(likely(rate, rate), 1)
end

local function narrow()
  local met = s.flows and is_round(s.low) and 2 * MET or MET
  if s.high - s.low <= met * s.high then
    s.sure = true
    return keep(s.low, s.per)
  end
  local middle, spread = (s.low + s.high) / 2, (s.high - s.low) / 4
  keep(likely(middle - spread, middle + spread), s.per)
end

local function give_up_try(kept, tried)
  local costly = max(LONGEST_TRY, min(s.patience, LONGEST_COSTLY_TRY))
  s.patience = min(s.patience <= LONGEST_TRY and costly or LONGEST_COSTLY_TRY, 2 * s.patience)
  s.sure = (kept - tried) <= MET * tried
  s.low, s.high, s.more = tried, kept, MORE
  keep(tried, s.per)
end

local function is_rare(refusal)
  return refusal.since * RARE > max(1, refusal.pause / interval())
end

local function give_way(refusal)
  local again
  if s.flows then
    again = refusal.since < TELLING
  else
    again = refusal.sent - s.stepped < AGAIN * max(1, s.per)
  end
  s.less = again and min(0.5, s.less * 2) or MORE
  keep(s.requests * (1 - s.less), s.per)
end

local function relearn(refusal)
  local kept, tried = s.requests, s.before
  local counted = count(s.per, refusal.sent, refusal.received)
  s.before, s.more = 0, MORE
  if tried > 0 and (s.flows or counted.most >= 0.9 * floor(tried)) then
    return give_up_try(kept, tried)
  end
  local last_mean, last_seen = s.mean, s.seen
  local kept_for = max(1e-3, refusal.received - s.emptied)
  local mean = refusal.since / kept_for * s.per
  s.mean = refusal.since >= TELLING and mean or 0
  s.seen = 0
  local was_burst
  if s.flows then was_burst = kept <= 1.02 * s.low else
    was_burst = not (s.sure and s.low >= 0.99 * kept) end
  local at_most = 0.97 * s.per / interval()
  if was_burst and s.mean > 0 and last_mean > 0 and 0.4 * kept <= mean and mean < at_most then
    if abs(mean - last_mean) <= SAME * mean then
      s.low, s.high, s.sure = mean, 0, true
      return keep(likely(0.99 * mean, 1.01 * mean), s.per)
    end
  end
  if counted.most < 0.97 * kept and not s.flows then
    local at_once = not s.sure and s.low > 0 and refusal.sent - s.stepped < 0.5 * s.per
    local doubted = at_once or s.low > 1.05 * counted.most
    local is_same = last_seen > 0 and abs(counted.most - last_seen) <= max(1, SAME * last_seen)
    if is_same or not doubted then
      s.low, s.high, s.sure = 0, 0, true
      return keep(let_through(counted), s.per)
    end
    s.seen = (s.sure or counted.most > 0.25 * kept) and counted.most or 0
  end
  if s.sure then
    if not is_rare(refusal) and not widen(refusal.received) then give_way(refusal) end
  elseif kept <= 1.02 * s.low then
    s.low, s.high = 0, kept
    keep(mean >= 0.4 * kept and likely(mean, 1.02 * mean) or kept / 2, s.per)
  else
    s.high = kept
    narrow()
  end
end

local function conclude(at, accepted)
  local refusal = s.refused
  if not refusal then return end
  local window = explained(refusal)
  if not accepted and not window then return end
  s.refused = nil
  if window and (s.requests == 0 or window ~= s.per) then
    learn_window(refusal, window)
  elseif s.requests == 0 then
    learn_first(refusal, accepted)
  else
    relearn(refusal)
  end
  s.emptied, s.since = refusal.received, accepted and 1 or 0
  s.stepped, s.stepped_at = at, s.accepted
end

local function step()
  local kept_for = now - s.stepped
  if s.waited < max(2, s.requests) or kept_for < max(SOON, s.per) then return end
  if kept_for < 3 * interval() then return end
  if s.accepted - s.stepped_at < 0.95 * kept_for / interval() - #s.flying then return end
  if s.requests == s.announced and s.per == s.announced_per then return end
  if not s.sure then
    s.low, s.stepped = s.requests, now
    if s.high > 0 then narrow() else keep(s.requests * CLIMB, s.per) end
  elseif kept_for >= (s.before > 0 and max(2, 1.5 * s.per) or s.patience) then
    if s.before > 0 then
      s.more = min(LARGEST_STEP, s.more * 2)
      s.patience = s.flows and CHEAP_TRY or max(FIRST_TRY, s.per)
    end
    s.before, s.low, s.stepped = s.requests, s.requests, now
    keep(s.requests * (1 + s.more), s.per)
  elseif kept_for >= 2 * s.per then
    s.low = max(s.low, s.requests)
  end
end

local function hear(quota, refused)
  local requests = quota.requests or 0
  if requests > 0 and (quota.per or 0) > 0 then
    if requests ~= s.announced or quota.per ~= s.announced_per then
      s.announced, s.announced_per = requests, quota.per
      s.sure, s.flows, s.before = true, false, 0
      keep(requests, quota.per)
    end
  elseif requests > 0 then
    s.named = requests
  end
  if refused then
    s.trusts_remaining = s.trusts_remaining and (quota.remaining or 0) == 0
    return false
  end
  return s.requests == 0 and s.trusts_remaining and quota.remaining == 0
    and (quota.reset or 0) > 0
end

-- reckoning.py

local function refuse(reply)
  if reply.verdict == 'refused' then
    if s.probing and s.refused then
      s.refused.last = reply.sent
    elseif not s.probing or s.since > 0 then
      s.refused = {
        sent = reply.sent, received = reply.received, retry_after = reply.retry_after,
        last = reply.sent, since = s.since, pause = 0,
      }
    end
  end
  pause(reply)
  if s.refused then
    s.refused.pause = s.till - s.refused.received
    if reply.wait == 0 and s.learns and reply.retry_after and explained(s.refused) then
      s.next = max(s.next, s.refused.received + s.refused.retry_after)
    end
  end
end

local function hear_reply(reply)
  replied(reply)
  local after_pause = s.probing and reply.sent >= s.began
  if reply.quota and s.learns and hear(reply.quota, reply.verdict == 'refused') then
    local wait = reply.quota.reset
    refuse({ verdict = 'refused', sent = reply.sent, received = reply.received,
      retry_after = wait, wait = wait, quota = reply.quota, spread = reply.spread })
    after_pause = false
  end
  if reply.verdict == 'accepted' then
    s.accepted, s.since = s.accepted + 1, s.since + 1
    if s.learns then log_accepted(reply.sent, reply.received) end
    if after_pause then
      if s.learns then
        conclude(reply.received, reply.sent)
      elseif s.refused then
        local refusal = s.refused
        s.refused, s.since = nil, 1
        if s.requests > 0 and not is_rare(refusal) then widen(reply.received) end
      end
      go_on(reply.received)
    end
  elseif reply.verdict == 'failed' then
    if after_pause then s.probe = 0 end
  elseif reply.sent >= s.began then
    refuse(reply)
  end
end

local function at_once()
  local share = floor(RISKED_SHARE * s.accepted)
  if share <= RISK then return RISK end
  local ahead = share
  for _, n in ipairs(LIKELY) do
    if n >= s.accepted then
      ahead = n - s.accepted
      break
    end
  end
  return max(RISK, min(share, ahead + RISK))
end

local function reserve()
  forget_lost()
  local at
  if s.probing then
    if s.probe ~= 0 then return nil end
    if s.learns and now >= s.till then conclude(now, nil) end
    at = max(now, s.till, s.next)
    s.probe, s.probe_left = at, false
    if s.requests > 0 then s.next = at + interval() end
  elseif s.requests > 0 then
    if s.pad > 0 then ease() end
    if s.learns then step() end
    at = max(next_slot(), s.till)
  else
    local most = at_once()
    if #s.flying + #s.reserved >= most then return nil end
    at = max(now, s.next)
    local took = trip()
    s.next = at + min((took > 0 and took or 1) / most, 1 / FIRST_RATE)
  end
  insort(s.reserved, at)
  return at
end

-- What a process told, and what it wants.

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
  interval = known and interval() or 1 / FIRST_RATE,
  pause = s.till - now,
  processes = processes,
  limit = known and { s.requests, s.per } or nil,
  known = s.before > 0 and s.before or nil,
})
