// The pure parts of app/static/jelmore.js, under node: JELMORE_MODULE is where it lies.
import assert from 'node:assert/strict';
import { test } from 'node:test';

const {
  ConnectionState, errorOf, EventParser, JelmoreClient, JelmoreError, JelmoreStream, LIMITS, mayHelp, nextCursor, pauseMs, Resumption,
} = await import(process.env.JELMORE_MODULE);

const utf8 = new TextEncoder();
const CONNECTED = 'retry: 2000\nevent: connected\ndata: {"session_id": "s"}\n\n';
const QUICK = { ...LIMITS, retries: 2, resumes: 3, pauseMs: 1000, longestPauseMs: 8000 };
const entry = (id, event, data) => `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
const parse = (...chunks) => {
  const parser = new EventParser();
  return chunks.flatMap((chunk) => [...parser.feed(chunk)]);
};

test('events are the same however their bytes are cut', () => {
  const stream = utf8.encode(`${CONNECTED}: \n\n${entry(1, 'output', { content: 'grün 💡\u2028\r' })}:\n\n${entry(2, 'terminated', {})}`);
  const whole = parse(stream);
  assert.deepEqual(whole.map(({ id, event }) => [id, event]), [[null, 'connected'], [1, 'output'], [2, 'terminated']]);
  assert.equal(JSON.parse(whole[1].data).content, 'grün 💡\u2028\r');
  for (let size = 1; size < 50; size += 1) {
    const pieces = [];
    for (let at = 0; at < stream.length; at += size) pieces.push(stream.subarray(at, at + size));
    assert.deepEqual(parse(...pieces), whole);
  }
});

test('what is left of an event is no event, and lines may end as Windows has them', () => {
  assert.deepEqual(parse(utf8.encode(CONNECTED + entry(1, 'output', {}).slice(0, -1))), parse(utf8.encode(CONNECTED)));
  assert.deepEqual(parse(utf8.encode(entry(7, 'output', { a: 1 }).replaceAll('\n', '\r\n'))), [{ id: 7, event: 'output', data: '{"a":1}' }]);
});

test('an event has a largest size', () => {
  for (const piece of ['x'.repeat(100_000), `data: ${'x'.repeat(100_000)}\n`]) {
    assert.throws(() => parse(...Array(100).fill(utf8.encode(piece))), /too large/);
  }
});

test('errors say what the service said', () => {
  const body = JSON.stringify({ detail: 'No.', error_code: 'RATE_LIMITED', errors: [{ loc: ['query'] }] });
  const error = errorOf(429, body, new Headers({ 'Retry-After': '7', 'X-Request-ID': 'r-1' }));
  assert.deepEqual(
    [error.message, error.status, error.errorCode, error.requestId, error.retryAfterMs, error.errors.length, error.final],
    ['No.', 429, 'RATE_LIMITED', 'r-1', 7000, 1, false]);
  for (const other of ['<html>', '', '[]', 'null', '{"detail": 1}']) {
    const bad = errorOf(502, other, new Headers({ 'Retry-After': 'tomorrow' }));
    assert.deepEqual([bad.status, bad.errorCode, bad.retryAfterMs], [502, null, 0]);
  }
});

test('requests are sent again only where it helps and is safe', () => {
  const broke = new JelmoreError('cut');
  const refused = (status, errorCode, retryAfterMs = 0) => new JelmoreError('no', { status, errorCode, retryAfterMs });
  const table = [
    [broke, true, true], [broke, false, false],
    [refused(503, 'DATABASE_UNAVAILABLE'), true, true], [refused(503, 'DATABASE_UNAVAILABLE'), false, false],
    [refused(429, 'RATE_LIMITED', 3000), false, true], [refused(429, 'RATE_LIMITED', 3_600_000), true, false],
    [refused(429, 'TOO_MANY_SESSIONS'), true, false], [refused(409, 'IDEMPOTENCY_IN_PROGRESS'), true, true],
    [refused(500, 'INTERNAL_ERROR'), true, false], [refused(404, 'NOT_FOUND'), true, false], [new TypeError('bug'), true, false],
  ];
  for (const [error, repeatable, again] of table) assert.equal(mayHelp(error, repeatable), again, `${error.status} ${repeatable}`);
});

test('pauses grow up to a limit and are spread', () => {
  for (const failures of [1, 2, 10, 1e6]) {
    assert.equal(pauseMs(failures, QUICK, () => 0), 0);
    assert.equal(pauseMs(failures, QUICK, () => 1), Math.min(8000, 1000 * 2 ** (failures - 1)));
  }
});

const take = (resumption, id, event = 'output', data = {}) => resumption.take({ id, event, data });

test('a stream goes on behind the last entry it brought', () => {
  const resumption = new Resumption(QUICK, { tail: 5 });
  assert.deepEqual(resumption.position, { tail: '5' });
  assert.ok(take(resumption, null, 'connected'));
  assert.deepEqual(resumption.position, { tail: '5' });
  take(resumption, 11);
  assert.deepEqual(resumption.position, { after: '11' });
  assert.ok(!take(resumption, null, 'connected'));
  take(resumption, 12, 'terminated');
  assert.ok(resumption.over);
  assert.deepEqual(new Resumption(QUICK, { after: 0 }).position, { after: '0' });
});

test('a stream that gets no further is given up; one that was never reached sooner', () => {
  const reached = new Resumption(QUICK);
  for (let count = 0; count < QUICK.resumes; count += 1) { reached.opened(); reached.pause(null); }
  reached.opened();
  assert.throws(() => reached.pause(new JelmoreError('cut')), /could not be resumed: cut/);
  const never = new Resumption(QUICK);
  for (let count = 0; count < QUICK.retries; count += 1) never.pause(new JelmoreError('refused'));
  assert.throws(() => never.pause(new JelmoreError('refused')), JelmoreError);
});

test('a stream that gets further may break as often as it likes', () => {
  let now = 0;
  const [further, held] = [new Resumption(QUICK), new Resumption(QUICK, {}, { now: () => now })];
  for (let count = 1; count < 50; count += 1) {
    further.opened();
    take(further, count);
    assert.ok(further.pause(null) <= QUICK.pauseMs);
    held.opened();
    now += 5000;
    assert.ok(held.pause(null) <= QUICK.pauseMs);
  }
});

test('refusals end a stream; failures told inside it do not', () => {
  for (const status of [400, 401, 403, 404, 410]) {
    assert.throws(() => new Resumption(QUICK).pause(new JelmoreError('no', { status })), { status });
  }
  for (const status of [429, 500, 503]) new Resumption(QUICK).pause(new JelmoreError('later', { status }));
  assert.throws(() => take(new Resumption(QUICK), null, 'stream_error', { detail: 'away', error_code: 'DATABASE_UNAVAILABLE' }),
    { status: 503, errorCode: 'DATABASE_UNAVAILABLE', final: false });
  assert.ok(new Resumption(QUICK).pause(new JelmoreError('later', { status: 429, retryAfterMs: 12_000 })) >= 12_000);
});

test('a connection is connected, streaming, waiting, disconnected', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] });
  const states = [];
  const connection = new ConnectionState((state) => states.push(state), 1000);
  assert.equal(connection.state, 'disconnected');
  connection.opened();
  connection.heard('status');
  context.mock.timers.tick(999);
  connection.heard('output');
  connection.heard('output');
  context.mock.timers.tick(1000);
  connection.heard('input');
  connection.heard('output');
  connection.closed();
  context.mock.timers.tick(5000);
  assert.deepEqual(states, ['connected', 'streaming', 'waiting', 'streaming', 'disconnected']);
});

test('the next page is found wherever the service thinks it is', () => {
  assert.equal(nextCursor('<http://inside:8000/x?limit=2&cursor=a%2Bb>; rel="next"'), 'a+b');
  assert.equal(nextCursor('<http://x/?cursor=1>; rel="prev"'), null);
  assert.equal(nextCursor(null), null);
});

test('the client has the methods, the constructor and the headers of the examples', () => {
  const client = new JelmoreClient('http://localhost:8000/', 'your-api-key');
  assert.equal(client.baseUrl, 'http://localhost:8000');
  assert.deepEqual(client.headers, { Authorization: 'Bearer your-api-key' });
  assert.equal(client.createSession.length, 1);
  assert.equal(client.streamOutput.length, 4);
  assert.equal(typeof client.connectWebSocket, 'function');
  assert.ok(!JSON.stringify({ ...client, headers: null }).includes('your-api-key'));
});

test('a service that is not there is given up, and said once', async () => {
  const limits = { retries: 1, pauseMs: 1, answerMs: 2000 };
  const client = new JelmoreClient('http://127.0.0.1:9', 'key', { limits });
  await assert.rejects(client.getSession('any'), { name: 'JelmoreError', status: 0 });
  const stream = new JelmoreStream('http://127.0.0.1:9/stream', { limits });
  const errors = [];
  stream.addEventListener('error', (event) => errors.push(event.data));
  await new Promise((resolve) => { stream.addEventListener('close', resolve); });
  assert.equal(errors.length, 1);
  assert.deepEqual([stream.readyState, stream.state], [JelmoreStream.CLOSED, 'disconnected']);
});
