-- What refusals, replies and header fields tell of a limit: what limits.py does.

local function keep(requests, per)
  s.stepped_at = s.accepted
  s.requests, s.per = max(requests, 1e-6), per
  s.waited = 0
  if not s.flows and #s.replies < bound_of(s.requests) then
    s.replies = newest(bound_of(s.requests))
  end
end

local function is_round(requests)
  local digits = string.gsub(string.format('%.0f', requests), '0+$', '')
  return digits == '1' or digits == '2' or digits == '25' or digits == '3' or digits == '5'
    or digits == '6'
end

local function likely(least, most)
  if s.named > 0 and 0.8 * least <= s.named and s.named <= 1.25 * most then return s.named end
  if most < 10 then
    for _, number in ipairs(SMALL) do
      if least <= number and number <= most then return number end
    end
    return (least + most) / 2
  end
  for _, step in ipairs(ROUND) do
    local rounded = floor(most / step) * step
    if rounded >= max(least, 1) and step <= most / 2 then return rounded end
  end
  return floor(most) >= least and floor(most) or most
end

local function let_through(counted)
  return max(1, likely(counted.is_whole and counted.most or counted.least, counted.most))
end

local function begin_anew(at)
  s.low, s.high, s.before, s.mean, s.seen = 0, 0, 0, 0, 0
  s.met, s.early = at, false
end

local function take(at, requests, per, cost)
  s.patience = max(FIRST_TRY, per, cost / TRY_COST)
  s.flows, s.sure, s.pad = false, true, 0
  begin_anew(at)
  keep(requests, per)
end

local function learn_window(refusal, per, begin, at)
  local age = min(per, refusal.received - begin + A_MOMENT)
  local requests = let_through(count(age, refusal.sent, refusal.received))
  local cost = refusal.retry_after or 0
  take(at, requests, per, cost)
  local is_likely = (requests >= LIKELY_FROM and is_round(requests)) or requests == s.named
  s.sure = cost > CHEAP or is_likely
end

local function learn_first(refusal, accepted, at)
  local window = first_window(refusal, accepted)
  if window then
    learn_window(refusal, window, refusal.received - window, at)
    s.guessed = refusal.retry_after ~= nil
    s.ramped, s.ramped_before = 0, 0
    return
  end
  local begin = begun(refusal)
  local soon = accepted - refusal.received
  local counted = count(accepted - begin, refusal.sent, refusal.received)
  local rate = 1 / max(soon, 1e-3)
  if counted.most >= 3 then
    local fast = counted.most / max(1e-3, refusal.received - counted.oldest)
    rate = max(rate, min(fast, 3 * rate))
  end
  s.patience = CHEAP_TRY
  s.flows, s.sure = true, false
  begin_anew(at)
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

local function mean_of(refusal)
  local last, last_kept, kept = s.mean, s.mean_at, s.requests
  local mean = refusal.since / max(1e-3, refusal.received - s.emptied) * s.per
  local tells = refusal.since >= TELLING
  local is_same = tells and last > 0 and abs(mean - last) <= SAME * mean
  if not is_same then s.mean, s.mean_at = tells and mean or 0, kept end
  local was_burst
  if s.flows then was_burst = kept <= 1.02 * s.low else
    was_burst = not (s.sure and s.low >= 0.99 * kept) end
  local is_told = s.flows or abs(kept - last_kept) > ANOTHER * kept
  local is_less = 0.4 * kept <= mean and mean < 0.97 * s.per / interval()
  return mean, was_burst and is_same and is_told and is_less
end

local function has_dropped(refusal, most, last)
  if most >= 0.97 * s.requests then return false end
  local at_once = not s.sure and s.low > 0 and refusal.sent - s.stepped < 0.5 * s.per
  local doubted = at_once or s.low > 1.05 * most or most < FEW * s.requests
  if not doubted or (last > 0 and abs(most - last) <= max(1, SAME * last)) then return true end
  s.seen = (s.sure or most > FEW * s.requests) and most or 0
  return false
end

local function relearn(refusal)
  local kept, tried = s.requests, s.before
  local counted = count(s.per, refusal.sent, refusal.received)
  local last_seen = s.seen
  s.seen, s.before, s.more = 0, 0, MORE
  if tried > 0 and (s.flows or counted.most >= 0.9 * floor(tried)) then
    return give_up_try(kept, tried)
  end
  local mean, is_flow = mean_of(refusal)
  local is_the_rate = refusal.since >= TELLING and NEARLY * kept <= mean and mean <= kept
  local is_soon = s.met > 0 and refusal.received - s.met < AFTERMATH * s.per
  s.early = is_soon and (s.early or not is_the_rate)
  if is_flow then
    s.low, s.high, s.sure = mean, 0, true
    keep(likely(0.99 * mean, 1.01 * mean), s.per)
  elseif not s.flows and has_dropped(refusal, counted.most, last_seen) then
    local requests = let_through(counted)
    if requests < s.per / interval() then s.pad = 0 end
    s.low, s.high = 0, 0
    s.sure = not s.early or refusal.retry_after ~= nil
    keep(requests, s.per)
  elseif s.sure then
    if not is_rare(refusal) and (s.flows or not widen(refusal.received)) then give_way(refusal) end
  elseif kept <= 1.02 * s.low then
    s.low, s.high = 0, kept
    keep(mean >= 0.4 * kept and likely(mean, 1.02 * mean) or kept / 2, s.per)
  else
    s.high = kept
    narrow()
    if s.early then s.high = 0 end
  end
end

local function conclude(at, accepted)
  local refusal = s.refused
  if not refusal then return end
  local window, window_begin = explained(refusal)
  if not accepted and not window then return end
  local knows = s.requests > 0 and not s.guessed
  s.refused, s.guessed = nil, false
  local number, per, is_window = twice(refusal, accepted)
  if number and is_window then
    take(at, number, per, refusal.retry_after or 0)
  elseif window and (window ~= s.per or not knows) then
    learn_window(refusal, window, window_begin, at)
  elseif number then
    keep(SLOWER * s.requests, s.per)
  elseif s.requests == 0 then
    learn_first(refusal, accepted, at)
  else
    relearn(refusal)
  end
  s.emptied, s.since = refusal.received, s.since - refusal.since
  s.stepped, s.stepped_at = at, s.accepted
end

local function step()
  local kept_for = now - s.stepped
  if s.waited < max(2, s.requests) or kept_for < max(SOON, s.per) then return end
  if kept_for < 3 * interval() then return end
  local demand = s.sure and not s.flows and DEMAND or LATE_DEMAND
  if s.accepted - s.stepped_at < demand * kept_for / interval() - #s.flying then return end
  if s.requests == s.announced and s.per == s.announced_per then return end
  if not s.sure then
    s.low, s.stepped = s.requests, now
    if s.high > 0 then narrow() else keep(s.requests * CLIMB, s.per) end
  elseif kept_for >= (s.before > 0 and 1.5 * max(1, s.per) or s.patience) then
    if s.before > 0 then
      s.more = min(LARGEST_STEP, s.more * 2)
      if s.more >= RISEN then s.patience = s.flows and CHEAP_TRY or max(FIRST_TRY, s.per) end
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
      s.sure, s.flows, s.guessed, s.before = true, false, false, 0
      s.met, s.early = 0, false
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

