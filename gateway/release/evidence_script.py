"""The script by which outcomes are counted in Redis together with the cursors' move; see `evidence`."""

# KEYS: place, counts, users, buckets. ARGV: fence, ms to keep, work as JSON: `cursors` (field, from, to), `ops`.
# An op of an interaction: "i", seen, waiting, id, user, group, period, signals, asked, at, asked's buckets. One of
# feedback: "f", seen, waiting, id, user, signals, whether it may wait. Buckets are numbers of KEYS.
APPLY = """
if tonumber(redis.call('HGET', KEYS[1], 'fence') or '0') > tonumber(ARGV[1]) then
  return redis.error_reply('FENCED another gateway has taken over')
end
local work = cjson.decode(ARGV[3])
for _, cursor in ipairs(work.cursors) do
  if (redis.call('HGET', KEYS[1], cursor[1]) or '') ~= cursor[2] then
    return redis.error_reply('FENCED another gateway has read on')
  end
end
local letters = {thumb = 't', complaint = 'c', unsafe = 'u', error = 'e', regenerated = 'r', slow = 's'}
local function mark(period, group, user, signal)
  local key = period .. '/' .. user
  local known = redis.call('HGET', KEYS[3], key)
  if not known then
    known = group
    redis.call('HSET', KEYS[3], key, known)
    redis.call('HINCRBY', KEYS[2], period .. '/' .. group .. '/users', 1)
  end
  local its = period .. '/' .. string.sub(known, 1, 1) .. '/'
  if signal == '' then
    redis.call('HINCRBY', KEYS[2], its .. 'interactions', 1)
    return
  end
  local letter = letters[(signal == 'up' or signal == 'down') and 'thumb' or signal]
  if not string.find(known, letter, 2, true) then
    redis.call('HSET', KEYS[3], key, known .. letter)
    redis.call('HINCRBY', KEYS[2], its .. signal, 1)
  end
end
local function keep(bucket, ms)
  redis.call('PEXPIRE', KEYS[bucket], ms)
end
for _, op in ipairs(work.ops) do
  if op[1] == 'i' then
    local _, seen, waiting, id, user, group, period, signals, asked, at, hours = unpack(op)
    if redis.call('HSETNX', KEYS[seen], id, group .. user .. period) == 1 then
      keep(seen, work.seen_ms)
      mark(period, group, user, '')
      for _, signal in ipairs(signals) do
        mark(period, group, user, signal)
      end
      for _, hour in ipairs(asked ~= '' and hours or {}) do
        local before = redis.call('HGET', KEYS[hour], asked)
        if before then
          local then_at, its = string.match(before, '^([^ ]+) (.+)$')
          if math.abs(at - tonumber(then_at)) <= work.again_s then
            mark(tonumber(then_at) <= at and its or period, group, user, 'regenerated')
          end
        end
      end
      if asked ~= '' then
        redis.call('HSET', KEYS[hours[2]], asked, string.format('%.3f', at) .. ' ' .. period)
        keep(hours[2], work.asked_ms)
      end
      local early = redis.call('HGET', KEYS[waiting], id)
      for _, one in ipairs(early and cjson.decode(early) or {}) do
        if one[1] == '' or one[1] == user then
          for _, signal in ipairs(one[2]) do
            mark(period, group, user, signal)
          end
        end
      end
    end
  else
    local _, seen, waiting, id, user, signals, may_wait = unpack(op)
    local known = redis.call('HGET', KEYS[seen], id)
    if known then
      local its = string.sub(known, 2, 17)
      if user == '' or user == its then
        for _, signal in ipairs(signals) do
          mark(string.sub(known, 18), string.sub(known, 1, 1), its, signal)
        end
      end
    elseif may_wait then
      local early = cjson.decode(redis.call('HGET', KEYS[waiting], id) or '[]')
      early[#early + 1] = {user, signals}
      redis.call('HSET', KEYS[waiting], id, cjson.encode(early))
      keep(waiting, work.waiting_ms)
    end
  end
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1])
for _, cursor in ipairs(work.cursors) do
  redis.call('HSET', KEYS[1], cursor[1], cursor[3])
end
for number = 1, 3 do
  redis.call('PEXPIRE', KEYS[number], ARGV[2])
end
return #work.ops
"""
