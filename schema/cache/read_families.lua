-- Count the distinct families that a caller reads in a day (NEXUS_FAMILY_QUOTA): all of those asked for, or none.
-- KEYS: the set of the ids that the caller has read today. ARGV: the quota; seconds that the set is kept; how many
-- families the process knows that the caller has read; how many ids follow that were read while this server was away;
-- these ids, which are counted in any case; then the ids that are asked for, each once.
-- Returns 1 if they are counted, 0 if they are too many; and how many families are counted now.
-- The set holds at most the quota, and what was read while this server was away.
local quota, kept_seconds, known, owed = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
for i = 5, 4 + owed do
    redis.call('SADD', KEYS[1], ARGV[i])
end
local new = {}
for i = 5 + owed, #ARGV do
    if redis.call('SISMEMBER', KEYS[1], ARGV[i]) == 0 then
        new[#new + 1] = ARGV[i]
    end
end
local counted = math.max(redis.call('SCARD', KEYS[1]), known)
local let_in = 1
if #new > 0 and counted + #new > quota then
    let_in = 0
else
    for i = 1, #new do
        redis.call('SADD', KEYS[1], new[i])
    end
    counted = counted + #new
end
redis.call('EXPIRE', KEYS[1], kept_seconds)
return {let_in, counted}
