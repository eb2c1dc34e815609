-- Which window a limiter counts in: what windows.py does.

-- The window, and when the first request that it counts was sent.
local function explained(refusal)
  if not refusal.retry_after then return nil end
  local candidates = {}
  if s.announced_per > 0 then insert(candidates, s.announced_per) end
  if s.requests > 0 then insert(candidates, s.per) end
  for _, per in ipairs(WINDOWS) do insert(candidates, per) end
  for _, per in ipairs(candidates) do
    local counted = count(per, refusal.sent, refusal.received)
    local since_pause = max(counted.oldest, s.first)
    local is_likely = per == s.announced_per or (s.requests > 0 and per == s.per)
    local by_oldest = refusal.retry_after - (counted.oldest + per - refusal.sent + 0.5)
    local by_pause = refusal.retry_after - (since_pause + per - refusal.sent + 0.5)
    local less = EXPLAINS + (s.emptied > 0 and since_pause == s.first and DRAWN * per or 0)
    local fits = (-less < by_pause and by_pause < EXPLAINS)
      or (is_likely and abs(by_oldest) < EXPLAINS)
    if counted.most > 0 and fits then
      return per, abs(by_oldest) <= abs(by_pause) and counted.oldest or since_pause
    end
  end
  return nil
end

-- The shortest usual window within bounds.
local function usual(least, most)
  for _, per in ipairs(USUAL) do
    if least <= per * 1.0005 + 0.005 and per <= most then return per end
  end
  return nil
end

local function first_window(refusal, accepted)
  if s.announced_per > 0 then return s.announced_per end
  if refusal.retry_after then return WINDOWS[1] end
  local begin = begun(refusal)
  local least, most = refusal.last - begin, accepted - begin
  local silent = accepted - refusal.received
  local is_at_once = refusal.last == refusal.sent and silent < WINDOWS[1]
  if most < WINDOWS[1] or is_at_once then return nil end
  local per = usual(least, most)
  if not per then
    per = usual(refusal.last - refusal.received, silent)
    if not per or silent >= 2 * per then per = usual(least, huge) end
  end
  return per or most
end

-- Whether as many got through as the last time: how many, the window, and whether it is one.
local function twice(refusal, accepted)
  local begin = s.first ~= 0 and s.first or refusal.sent
  local took = refusal.received - begin
  local number = count(took, refusal.sent, refusal.received).most
  local least, most = refusal.last - begin - trip(), huge
  if refusal.retry_after then
    least = max(least, refusal.sent + refusal.retry_after - ROUNDED - begin)
    most = refusal.received + refusal.retry_after - begin
  end
  if accepted then most = min(most, accepted - begin) end
  most = most * (1 + DRAWN) + ROUNDED
  local last = s.passed
  local rate = number / max(1e-3, took)
  s.passed = { number = number, rate = rate, least = least, most = most }
  if max(least, last.least) <= min(most, last.most) then
    least, most = max(least, last.least), min(most, last.most)
  end
  local is_same = number >= TELLING_NUMBER
    and abs(number - last.number) <= max(1, SAME_NUMBER * number)
  local per = usual(least, most)
  if s.before > 0 or s.requests == 0 or not is_same or not per then return nil end
  local is_window = abs(rate - last.rate) > ANOTHER_RATE * rate
  local silent = max(refusal.last - refusal.received, (refusal.retry_after or 0) - ROUNDED)
  if silent >= LONGER * s.per then return number, per, is_window end
  local is_less = s.flows or number < 0.97 * s.requests
  if is_window and is_less and refusal.last > refusal.sent then return number, per, true end
  return nil
end
