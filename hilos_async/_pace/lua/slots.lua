-- When the next request may leave, and the pause: what slots.py does.

local function interval()
  return s.per / s.requests * SPREAD[s.pad + 1]
end

local function trip()
  local fastest = min(s.fastest, s.fastest_before)
  return fastest < huge and fastest or 0
end

local function way()
  return (s.recent >= TELLING_REPLIES or s.fastest_before < huge) and trip() or 0
end

local function bound_of(requests)
  return requests < BOUND and floor(requests + ALMOST_ONE) or BOUND
end

local function next_slot()
  local per, grid = s.per, s.next
  local even = per / s.requests
  local gap = even * SPREAD[s.pad + 1]
  local catch_up = 0
  if s.sure and s.pad == 0 and not s.flows then
    catch_up = max(CATCH_UP, min(CATCH_UP_SLOTS * gap, CATCH_UP_SHARE * per))
  end
  s.waited = grid > now - max(catch_up, CATCH_UP) and s.waited + 1 or 0
  if grid <= now - catch_up then grid = now end
  local at = grid
  local bound = bound_of(s.requests)
  local nth = bound - #s.flying - #s.reserved
  if nth <= 0 then
    if -nth < #s.flying then at = max(at, s.flying[1 - nth] + bound * even * A_LITTLE_MORE) end
  elseif nth <= #s.replies then
    at = max(at, s.replies[#s.replies + 1 - nth] - way() + bound * even * A_LITTLE_MORE)
  end
  s.next = max(grid, catch_up > 0 and at - BOUND_CATCH_UP * per or at) + gap
  return at
end

local function left(at)
  if #s.reserved > 0 then remove(s.reserved, max(1, place(s.reserved, at, true) - 1)) end
  insort(s.flying, at)
  if s.probing and at >= s.began then s.probe, s.probe_left = at, true end
  if s.first == 0 then s.first = at end
  if s.requests > 0 and (s.pad > 0 or s.flows or not s.sure) then s.next = max(s.next, at + interval()) end
end

local function replied(reply)
  take_nearest(s.flying, reply.sent)
  if reply.verdict == 'accepted' then remember_trip(reply.received - reply.sent) end
  if s.requests > 0 and (reply.verdict == 'accepted' or reply.verdict == 'failed') then
    insort(s.replies, min(reply.received, reply.sent + way() + LATEST * s.per))
    while #s.replies > bound_of(s.requests) do remove(s.replies, 1) end
  end
end

local function forget_lost()
  while #s.reserved > 0 and s.reserved[1] < now - UNUSED do remove(s.reserved, 1) end
  while #s.flying > 0 and s.flying[1] < now - max(SILENT, s.per) do remove(s.flying, 1) end
  if s.probe ~= 0 and s.probe < now - (s.probe_left and SILENT or UNUSED) then s.probe = 0 end
end

local function begun(refusal)
  local begin = s.first ~= 0 and s.first or refusal.sent
  return refusal.received - begin <= FRESH and begin or refusal.received
end

local function blind(received)
  local times = s.in_a_row - 1
  local gap = s.requests > 0 and interval() or 0
  if s.requests > 0 and s.flows then
    return min(LONGEST_BLIND, max(0.01, gap) * 2 ^ min(times, 12))
  end
  local wait = (s.requests > 0 and max(0.01, gap) or FIRST_BLIND) * 4 ^ min(times, 12)
  if s.requests > 0 then
    return min(wait, s.per * 2 ^ min(max(0, times - 4), 12), max(LONGEST_BLIND, s.per))
  end
  if times >= 2 and s.refused then
    local ends = {}
    local begin = begun(s.refused)
    for _, reset in ipairs(RESETS) do insert(ends, begin + reset) end
    insert(ends, 2, s.refused.received + RESETS[1])
    for _, at in ipairs(ends) do
      if at > received then return at + 0.02 - received end
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
  s.till = max(s.till, reply.received + wait * (1 + DRAWN * reply.spread))
  s.probing, s.probe = true, 0
end

local function go_on(sent, received)
  s.probing, s.probe, s.in_a_row, s.first, s.waited = false, 0, 0, sent, 0
  s.next = max(s.next, received + (s.requests > 0 and interval() or 0))
end

local function widen(received)
  if s.pad == #SPREAD - 1 or (s.learns and s.pad >= LEARNED_PAD) then return false end
  if received - s.padded >= EASES_AFTER * 2 ^ s.ease then
    s.ease = 0
  elseif s.eased then
    s.ease = min(LONGEST_EASE, s.ease + 1)
  end
  s.pad, s.padded, s.eased = s.pad + 1, received, false
  return true
end

local function ease()
  if now - s.padded >= EASES_AFTER * 2 ^ s.ease then
    s.pad, s.padded, s.eased = s.pad - 1, now, true
  end
end

