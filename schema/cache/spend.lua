-- Count what callers use of their rates: sliding window counters, one key each (nexus_graph/door/window.py has the rule).
-- A key holds "<ms since 1970 when its window began> <count of the window before> <count of this window>" and ends with
-- its windows. Entries are handled in order; one key may have several.
-- KEYS: one for each entry. ARGV: the time in ms since 1970, 0 for this server's clock; then for each entry
--   the rate's amount; its time in ms; what is to be added, or given back if negative; 1 if calls were refused since;
--   a cost to be let in whole or refused, 0 for none; how much the process would like to have counted ahead.
-- Returns for each entry: 1 if the cost was let in; how much was counted ahead; ms since the window began; both counts.
-- Counted ahead is at most a sixteenth of what is left, and nothing if that is less than eight.
local at = tonumber(ARGV[1])
if at == 0 then
    local time = redis.call('TIME')
    at = time[1] * 1000 + math.floor(time[2] / 1000)
end
local answer = {}
for i = 1, #KEYS do
    local first = 6 * i - 4
    local amount, window = tonumber(ARGV[first]), tonumber(ARGV[first + 1])
    local settled, cost, ahead = tonumber(ARGV[first + 2]), tonumber(ARGV[first + 4]), tonumber(ARGV[first + 5])
    local began, before, now = at, 0, 0
    local held = redis.call('GET', KEYS[i])
    if held then
        local one, two, three = string.match(held, '^(%d+) (%d+) (%d+)$')
        if one then
            began, before, now = tonumber(one), tonumber(two), tonumber(three)
        end
        local windows = math.floor((at - began) / window)
        if windows == 1 and now > 0 then
            began, before, now = began + window, now, 0
        elseif windows >= 1 then
            began, before, now = at, 0, 0
        end
    end
    began = math.min(began, at) -- the clock may have been set back
    local passed = at - began
    if settled > 0 then
        now = math.min(now + settled, math.max(now, amount + 1))
    elseif settled < 0 then
        now = now + settled
        if now < 0 then
            before, now = math.max(0, before + now), 0
        end
    end
    local used = before * (1 - passed / window) + now
    if ARGV[first + 3] == '1' and used <= amount then
        now, used = now + 1, used + 1
    end
    local let_in = 0
    if cost > 0 then
        if used + cost <= amount + 0.000001 then
            let_in, now, used = 1, now + cost, used + cost
        elseif used <= amount then
            now, used = now + 1, used + 1
        end
    end
    ahead = math.min(ahead, math.floor((amount - used) / 16))
    if ahead < 8 then
        ahead = 0
    end
    now = now + ahead
    if before > 0 or now > 0 then
        redis.call('SET', KEYS[i], string.format('%d %d %d', began, before, now), 'PX', 2 * window - passed)
    elseif held then
        redis.call('DEL', KEYS[i])
    end
    answer[#answer + 1] = let_in
    answer[#answer + 1] = ahead
    answer[#answer + 1] = passed
    answer[#answer + 1] = before
    answer[#answer + 1] = now
end
return answer
