-- Take a session's log from its holder: from here on a lower fence is STALE. PostgreSQL's fence was raised before.
--
-- KEYS[1]  hash  head:  `fence` and `claim` of the writer, `seq` of the last entry appended
-- ARGV[1]  the new fence
-- ARGV[2]  time to live, milliseconds, if the head has to be made (else a holder whose head was flushed could make one)
--
-- Returns the seq of the last entry in the log.

local held = tonumber(redis.call('HGET', KEYS[1], 'fence') or nil)
if not held then
  redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'seq', 0, 'claim', '')
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
elseif held < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'claim', '')
end
return tonumber(redis.call('HGET', KEYS[1], 'seq'))
