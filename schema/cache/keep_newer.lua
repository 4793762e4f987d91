-- Keep families unless a newer one is kept: a slow reader must not put back what a writer has made stale.
-- A value is a version in 20 digits, then the encoded family; a tombstone is the version alone: "older ones are stale".
-- A tombstone gives way to the family of its own version, never the other way round.
-- KEYS: families, then pointers. ARGV: how many families; for each its value and its life in ms; for each pointer its
-- family's id and its life in ms. Returns how many families were kept.
local families = tonumber(ARGV[1])
local kept = 0
for i = 1, families do
    local value, life = ARGV[2 * i], ARGV[2 * i + 1]
    local held = redis.call('GETRANGE', KEYS[i], 0, 19)
    local version = string.sub(value, 1, 20)
    if held < version or (held == version and #value > 20) then
        redis.call('SET', KEYS[i], value, 'PX', life)
        kept = kept + 1
    end
end
for i = families + 1, #KEYS do
    redis.call('SET', KEYS[i], ARGV[2 * i], 'PX', ARGV[2 * i + 1])
end
return kept
