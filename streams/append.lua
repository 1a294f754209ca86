-- Append a batch to one session's log, if the caller still holds it. Repeating any batch, or half of one, is harmless.
--
-- KEYS[1]  hash    head:  `fence` and `claim` of the writer, `seq` of the last entry appended
-- KEYS[2]  stream  log:   ids `<seq>-0`, field `e` = packed entry
-- ARGV[1]  fence of the caller
-- ARGV[2]  '1': the head may be created (the caller has just made sure of its fence), '0': it may not
-- ARGV[3]  time to live of both keys, milliseconds
-- ARGV[4]  entries with a lower seq are trimmed, '0': none
-- ARGV[5]  channel of the doorbell
-- ARGV[6]  most bytes of entries that are published with it; beyond, only the seq is
-- ARGV[7]  claim of the caller: a database that lost its last commits may give one fence to two of them
-- ARGV[8…] seq, packed entry, seq, packed entry, …  (none: trim and renew only)
--
-- Returns the seq of the last entry in the log, or
--   'STALE'    a higher fence is in the head: the session is somebody else's
--   'UNKNOWN'  there is no head of this fence and claim (flushed, expired), and it may not be created

local fence = tonumber(ARGV[1])
local head = redis.call('HMGET', KEYS[1], 'fence', 'seq', 'claim')
local held, seq = tonumber(head[1] or nil), tonumber(head[2] or nil)

if held and held > fence then
  return 'STALE'
end
if not held or held < fence or head[3] ~= ARGV[7] then
  if ARGV[2] ~= '1' then
    return 'UNKNOWN'
  end
  -- What a former holder left may never have been stored, and its numbers are given again.
  redis.call('DEL', KEYS[2])
  seq = 0
end

local news, size = {}, 0
for i = 8, #ARGV, 2 do
  if tonumber(ARGV[i]) > seq then
    seq = tonumber(ARGV[i])
    redis.call('XADD', KEYS[2], ARGV[i] .. '-0', 'e', ARGV[i + 1])
    news[#news + 1] = ARGV[i + 1]
    size = size + #ARGV[i + 1]
  end
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'seq', seq, 'claim', ARGV[7])

if ARGV[4] ~= '0' then
  redis.call('XTRIM', KEYS[2], 'MINID', ARGV[4] .. '-0')
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])

if #news > 0 then
  -- A flood of payloads overflows the subscribers' buffers, and the server drops them silently; a doorbell does not.
  local message = {seq}
  if size <= tonumber(ARGV[6]) then
    message[2] = table.concat(news)
  end
  redis.call('PUBLISH', ARGV[5], cmsgpack.pack(message))
end
return seq
