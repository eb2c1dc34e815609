-- The next slot, and what a reply changes: what reckoning.py does.

local function refuse(reply)
  if reply.verdict == 'refused' then
    if s.probing and s.refused then
      s.refused.last = reply.sent
    elseif not s.probing or s.accepted > s.stepped_at then
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

local function lately_is()
  return max(LATELY, LATELY_TRIPS * trip())
end

local function ramp(at)
  local since, lately = at - s.ramp_since, lately_is()
  if since > lately then
    s.ramped_before = since <= 2 * lately and s.ramped or 0
    s.ramped, s.ramp_since = 0, at
  end
  s.ramped = s.ramped + 1
  if s.guessed and s.accepted - s.stepped_at > OUTDONE * s.passed.number then s.guessed = false end
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
    if s.learns then
      log_accepted(reply.sent, reply.received)
      if s.requests == 0 or s.guessed then ramp(reply.received) end
    end
    if after_pause then
      if s.learns then
        conclude(reply.received, reply.sent)
      elseif s.refused then
        local refusal = s.refused
        s.refused, s.since = nil, 1
        if s.requests > 0 and not is_rare(refusal) then widen(reply.received) end
      end
      go_on(reply.sent, reply.received)
    end
  elseif reply.verdict == 'failed' then
    if after_pause then s.probe = 0 end
  elseif reply.sent >= s.began then
    refuse(reply)
  end
end

local function at_once()
  local lately = now - s.ramp_since <= 2 * lately_is() and s.ramped + s.ramped_before or 0
  local share = floor(RISKED_SHARE * lately)
  if share <= RISK then return RISK end
  local since, ahead = s.accepted - s.stepped_at, share
  for _, n in ipairs(LIKELY) do
    if n >= since then
      ahead = n - since + NEAR
      break
    end
  end
  if s.guessed then ahead = min(ahead, max(0, s.passed.number - since) + NEAR) end
  return min(ahead, share)
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
    if s.guessed and #s.flying + #s.reserved >= at_once() then return nil end
    if s.pad > 0 then ease() end
    if s.learns then step() end
    at = max(next_slot(), s.till)
  else
    local most = at_once()
    if #s.flying + #s.reserved >= most then return nil end
    at = max(now, s.next)
    local took = trip()
    s.next = at + min((took > 0 and took or 1) / most, FIRST_GAP)
  end
  insort(s.reserved, at)
  return at
end

