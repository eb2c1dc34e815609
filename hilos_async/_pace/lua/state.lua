-- The state that Redis keeps, by Redis' clock: what state.py does.
--
-- The reckoning of a pace is written twice, in Python and here. A test feeds both the same histories and
-- wants the same slots. redis_script.py puts these files together, after the numbers in capitals.
-- KEYS: the state; the processes that share it. ARGV: a report, as JSON; all its times are seconds
-- before the call, for the clocks of two machines share no epoch.

local max, min, floor, ceil, abs, insert, remove =
  math.max, math.min, math.floor, math.ceil, math.abs, table.insert, table.remove
local huge = math.huge

local report = cjson.decode(ARGV[1])
local fresh = {
  learns = true, requests = 0, per = 1, next = 0, pad = 0, padded = 0, ease = 0, eased = false,
  reserved = {}, flying = {}, replies = {}, fastest = huge, fastest_before = huge, recent = 0,
  till = 0, began = 0, in_a_row = 0, probing = false, probe = 0, probe_left = false,
  first = 0, log = {}, logged = 0, accepted = 0, emptied = 0, since = 0,
  ramped = 0, ramped_before = 0, ramp_since = 0,
  flows = false, sure = false, guessed = false, low = 0, high = 0, mean = 0, mean_at = 0, seen = 0,
  met = 0, early = false, before = 0,
  passed = { number = 0, rate = 0, least = 0, most = 0 },
  more = MORE, less = MORE, patience = FIRST_TRY, stepped = 0, stepped_at = 0, waited = 0,
  announced = 0, announced_per = 0, named = 0, trusts_remaining = true, last = 0, ahead = 0, heard = {},
}
local packed = redis.call('GET', KEYS[1])
local s = packed and cmsgpack.unpack(packed) or fresh
-- An older version of the library may have saved less.
for name, value in pairs(fresh) do
  if s[name] == nil then s[name] = value end
end

-- The clock of a machine may be set back; a grid that lies an hour ahead would stop the fleet.
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000 + s.ahead
if now < s.last then
  s.ahead = s.ahead + s.last - now
  now = s.last
end
s.last = now

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

local function newest(most)
  local replies = {}
  for nth = #s.log, 1, -1 do
    local entry = s.log[nth]
    for _ = 1, entry[3] do insert(replies, entry[2]) end
    if #replies >= most then break end
  end
  while #replies > most do remove(replies) end
  table.sort(replies)
  return replies
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

