// @ts-check
/**
 * A client for Jelmore's HTTP API, for browsers (and, but for what only they have, for Node 20 and later). No dependencies.
 *
 *     import { JelmoreClient } from '/static/jelmore.js';
 *
 *     const client = new JelmoreClient('http://localhost:8000', 'your-api-key');
 *     const session = await client.createSession('make test', null, { program: 'shell' });
 *     for await (const event of client.stream(session.session_id)) console.log(event.event, event.data);
 *
 * Streams and sockets go on by themselves where a connection broke: nothing is lost, nothing comes twice. Requests are repeated
 * where that is safe. What the service refuses is a `JelmoreError`. Everything has a limit: `LIMITS`.
 *
 * Three ways to follow a session: a streamed `fetch`, which sends the key in a header; the browser's EventSource, which cannot
 * send headers and gets a single-use ticket in its URL instead; and a WebSocket, with a ticket as well, that takes input.
 *
 * @module jelmore
 */

/**
 * @typedef {object} Limits No wait is longer than these say, in milliseconds; the defaults fit the service's.
 * @property {number} answerMs From a request to its whole answer, beside what the request itself asks the service to wait.
 * @property {number} silenceMs How long a connection may be without a byte before it is opened again. The service sends a
 *   heartbeat every 15 s, which EventSource hides: with it only the system notices that a connection is dead.
 * @property {number} retries How often a request that failed is sent again.
 * @property {number} resumes How often in a row a connection is opened again without getting any further.
 * @property {number} pauseMs The longest first pause before another try; it doubles each time.
 * @property {number} longestPauseMs What the pauses grow to.
 * @property {number} quietMs After how long without a message a connection is `waiting`.
 */

/** @type {Readonly<Limits>} */
export const LIMITS = Object.freeze({
  answerMs: 30_000,
  silenceMs: 45_000,
  retries: 4,
  resumes: 20,
  pauseMs: 500,
  longestPauseMs: 30_000,
  quietMs: 1_000,
});

/** The names of a stream's events. `error` is EventSource's own: the service says `stream_error`. */
export const EVENTS = Object.freeze(
  ['connected', 'output', 'status', 'input', 'restarted', 'request', 'agent', 'gap', 'terminated', 'stream_error']);

const FINAL = Object.freeze(['completed', 'terminated', 'failed']);
const LONGEST_RETRY_AFTER_MS = 60_000;
const LONGEST_WAIT_SECONDS = 25;
const STEADY_MS = 5_000; // a connection that held so long was no failure, even if nothing came
const LARGEST_EVENT = 8 * 1024 * 1024; // characters
const PAGE_BYTES = 256 * 1024;
const MESSAGE_BYTES = 64 * 1024; // what the service takes for one message of a socket
const MOST_PENDING = 1_000;
const AT_ONCE = 32;
const MOST_QUEUED = 1_000;
const PING_MS = 20_000; // of silence: then the service is asked whether it is there

// Errors.

/** The service refused or failed (`status` is HTTP's), or was not reached (`status` is 0). */
export class JelmoreError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, errorCode?: string | null, requestId?: string | null, retryAfterMs?: number,
   *   errors?: object[], final?: boolean, cause?: unknown}} [facts]
   */
  constructor(message, { status = 0, errorCode = null, requestId = null, retryAfterMs = 0, errors = [], final = false,
    cause } = {}) {
    super(message, { cause });
    this.name = 'JelmoreError';
    /** HTTP's status; 0 if there was no answer. */
    this.status = status;
    /** Stable, to be compared; null where something between us and the service answered. */
    this.errorCode = errorCode;
    /** The service's log has the request under this id. */
    this.requestId = requestId;
    /** How long the service asked to stay away. */
    this.retryAfterMs = retryAfterMs;
    /** Each fault of an invalid request: {loc, msg, type}. */
    this.errors = errors;
    /** Whether another try cannot mend it. */
    this.final = final || (status >= 300 && status < 500 && ![408, 425, 429].includes(status));
  }
}

/**
 * Return what an answer that is no success says.
 * @param {number} status
 * @param {string} body
 * @param {Headers} headers
 */
export function errorOf(status, body, headers) {
  let said = null;
  try { said = JSON.parse(body); } catch { /* somebody else answered */ }
  const isOurs = said !== null && typeof said === 'object' && typeof said.detail === 'string';
  const retryAfter = headers.get('retry-after') ?? '';
  return new JelmoreError(isOurs ? said.detail : `HTTP ${status}`, {
    status,
    errorCode: isOurs && typeof said.error_code === 'string' ? said.error_code : null,
    requestId: headers.get('x-request-id'),
    retryAfterMs: /^\d{1,9}$/.test(retryAfter) ? Number(retryAfter) * 1000 : 0,
    errors: isOurs && Array.isArray(said.errors) ? said.errors : [],
  });
}

// Time and chance.

/**
 * Return how long to pause after so many failures in a row: anything up to the limit, so that not all come at once.
 * @param {number} failures
 * @param {Limits} limits
 * @param {() => number} [chance]
 */
export function pauseMs(failures, limits, chance = Math.random) {
  return chance() * Math.min(limits.longestPauseMs, limits.pauseMs * 2 ** Math.min(failures - 1, 30));
}

/**
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<void>} Fulfilled after the time, or as soon as the signal is aborted.
 */
function sleep(ms, signal) {
  return new Promise((resolve) => {
    const wake = () => { clearTimeout(timer); signal.removeEventListener('abort', wake); resolve(); };
    const timer = setTimeout(wake, ms);
    signal.addEventListener('abort', wake);
    if (signal.aborted) wake();
  });
}

/** Ends what takes too long: `signal` is aborted when a time set with `within` is over, or when another signal is. */
class Watch {
  #controller = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #outer;
  #end = () => this.#controller.abort();
  expired = false;

  /** @param {AbortSignal | undefined} outer */
  constructor(outer) {
    this.#outer = outer;
    outer?.addEventListener('abort', this.#end);
    if (outer?.aborted) this.#end();
  }

  get signal() { return this.#controller.signal; }

  /** @param {number} ms */
  within(ms) {
    this.rest();
    this.#timer = setTimeout(() => { this.expired = true; this.#end(); }, ms);
  }

  rest() { clearTimeout(this.#timer); }

  stop() {
    this.rest();
    this.#outer?.removeEventListener('abort', this.#end);
    this.#end(); // a body that is not read to its end keeps its connection
  }
}

/** Return 32 hexadecimal digits; crypto.randomUUID exists only where the page is secure. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * @param {string} base64
 * @returns {Uint8Array}
 */
function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

// Events.

/**
 * @typedef {object} RawEvent
 * @property {string} event
 * @property {string} data JSON.
 * @property {number | null} id The entry's number; null for what is no entry.
 */

/**
 * @typedef {object} StreamEvent
 * @property {string} event One of EVENTS.
 * @property {Record<string, any>} data Its members. `bytes` is how many the program printed; with base64 see `bytes()`.
 * @property {number | null} id
 */

/** Cuts a stream's bytes into events. Lines end with \n or \r\n; a lone \r the service never sends. */
export class EventParser {
  #decoder = new TextDecoder();
  #rest = '';
  /** @type {string[]} */
  #lines = [];
  #size = 0;

  /**
   * @param {Uint8Array} chunk
   * @returns {Generator<RawEvent, void>} The events that are complete with these bytes.
   */
  * feed(chunk) {
    const lines = (this.#rest + this.#decoder.decode(chunk, { stream: true })).split('\n');
    this.#rest = /** @type {string} */ (lines.pop());
    for (const line of lines) {
      const event = this.#line(line.endsWith('\r') ? line.slice(0, -1) : line);
      if (event) yield event;
    }
    if (this.#size + this.#rest.length > LARGEST_EVENT) {
      throw new JelmoreError('An event of the stream is too large.', { final: true });
    }
  }

  /**
   * @param {string} line
   * @returns {RawEvent | null}
   */
  #line(line) {
    if (line !== '') {
      if (!line.startsWith(':')) { this.#lines.push(line); this.#size += line.length; }
      return null;
    }
    const event = { event: 'message', id: /** @type {number | null} */ (null) };
    const data = [];
    for (const said of this.#lines) {
      const [, name, value] = /** @type {RegExpMatchArray} */ (/^([^:]*):? ?([^]*)$/.exec(said));
      if (name === 'data') data.push(value);
      else if (name === 'event') event.event = value;
      else if (name === 'id' && /^\d+$/.test(value)) event.id = Number(value);
    }
    [this.#lines, this.#size] = [[], 0];
    return data.length ? { ...event, data: data.join('\n') } : null;
  }
}

/**
 * Return an event's members.
 * @param {RawEvent} raw
 * @returns {StreamEvent}
 */
function opened(raw) {
  try {
    return { id: raw.id, event: raw.event, data: JSON.parse(raw.data) };
  } catch (cause) {
    throw new JelmoreError('An event of the stream is no JSON.', { final: true, cause });
  }
}

/**
 * Return the exact bytes of an `output` event that was asked for with `encoding: 'base64'`.
 * @param {StreamEvent} event
 * @returns {Uint8Array}
 */
export function bytes(event) {
  return 'content_base64' in event.data ? bytesOf(event.data.content_base64) : new TextEncoder().encode(event.data.content);
}

// Connections: what they are in, and how they go on.

/**
 * @typedef {'connected' | 'streaming' | 'waiting' | 'disconnected'} State
 *   connected: open, nothing has come yet. streaming: output comes. waiting: nothing comes. disconnected: closed, or broken and
 *   about to be opened again.
 */

/** What a connection is in. */
export class ConnectionState {
  /** @type {State} */
  state = 'disconnected';
  #onchange;
  #quietMs;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /**
   * @param {(state: State) => void} onchange
   * @param {number} quietMs
   */
  constructor(onchange, quietMs) {
    this.#onchange = onchange;
    this.#quietMs = quietMs;
  }

  /** It is open. */
  opened() { this.#to('connected'); }

  /**
   * Something came.
   * @param {string} event
   */
  heard(event) { this.#to(event === 'output' ? 'streaming' : this.state); }

  /** It is closed, or broken. */
  closed() { this.#to('disconnected'); }

  /** @param {State} state */
  #to(state) {
    clearTimeout(this.#timer);
    if (state !== 'disconnected' && state !== 'waiting') this.#timer = setTimeout(() => this.#to('waiting'), this.#quietMs);
    if (state === this.state) return;
    this.state = state;
    this.#onchange(state);
  }
}

/** Where one reader is, over all its connections: what it has, from where it asks again, when it gives up. */
export class Resumption {
  #limits;
  #now;
  #chance;
  #failures = 0;
  #advanced = false;
  #everOpened = false;
  #saidConnected = false;
  /** @type {number | null} */
  #openedAt = null;
  #tail;
  /** @type {number | null} The last entry it has. */
  lastId;
  /** Whether nothing follows. */
  over = false;

  /**
   * @param {Limits} limits
   * @param {{after?: number | null, tail?: number | null}} [start]
   * @param {{now?: () => number, chance?: () => number}} [world]
   */
  constructor(limits, { after = null, tail = null } = {}, { now = () => performance.now(), chance = Math.random } = {}) {
    this.#limits = limits;
    this.#now = now;
    this.#chance = chance;
    this.lastId = after;
    this.#tail = tail;
  }

  /** Where the next connection begins, as parameters of its URL. */
  get position() {
    if (this.lastId !== null) return { after: String(this.lastId) };
    return this.#tail !== null ? { tail: String(this.#tail) } : {};
  }

  /** It is open. */
  opened() {
    this.#everOpened = true;
    this.#openedAt = this.#now();
  }

  /**
   * Note an event. A failure that is told inside a stream is thrown.
   * @param {StreamEvent} event
   * @returns {boolean} Whether the reader is to have it: `connected` only once.
   */
  take({ event, data, id }) {
    if (event === 'stream_error') throw new JelmoreError(data.detail, { status: 503, errorCode: data.error_code });
    if (event === 'connected') {
      const first = !this.#saidConnected;
      this.#saidConnected = true;
      return first;
    }
    if (id !== null) {
      this.lastId = id;
      this.#advanced = true;
    }
    if (event === 'terminated') this.over = true;
    return true;
  }

  /**
   * Return how long to wait before opening it again, in milliseconds. Throws where that would not help, or has not.
   * @param {unknown} fault
   */
  pause(fault) {
    const error = fault instanceof JelmoreError ? fault : null;
    if (fault !== null && (!error || error.final)) throw fault;
    const held = this.#openedAt !== null && this.#now() - this.#openedAt >= STEADY_MS;
    this.#failures = this.#advanced || held ? 1 : this.#failures + 1;
    [this.#advanced, this.#openedAt] = [false, null];
    if (this.#failures > (this.#everOpened ? this.#limits.resumes : this.#limits.retries)) {
      const cause = error ? error.message : 'the service closed it each time';
      throw new JelmoreError(`The connection broke off and could not be resumed: ${cause}`, {
        status: error?.status, errorCode: error?.errorCode ?? null, requestId: error?.requestId, final: true, cause: fault,
      });
    }
    return Math.min(error?.retryAfterMs ?? 0, LONGEST_RETRY_AFTER_MS) + pauseMs(this.#failures, this.#limits, this.#chance);
  }
}

/**
 * @typedef {object} Opening What one connection is opened with.
 * @property {string} url
 * @property {Record<string, string>} headers
 * @property {Limits} limits
 * @property {AbortSignal} signal
 * @property {(nothingFollows: boolean) => void} onopen
 */

/**
 * Yield what one streamed fetch brings.
 * @param {Opening} opening
 * @returns {AsyncGenerator<RawEvent, void>}
 */
async function* byFetch({ url, headers, limits, signal, onopen }) {
  const watch = new Watch(signal);
  try {
    watch.within(limits.silenceMs);
    const response = await fetch(url, {
      headers: { ...headers, Accept: 'text/event-stream' }, signal: watch.signal, cache: 'no-store', redirect: 'error',
    });
    if (response.status !== 200 && response.status !== 204) {
      throw errorOf(response.status, await response.text(), response.headers);
    }
    onopen(response.status === 204);
    if (response.status === 204 || !response.body) return;
    if (!response.headers.get('content-type')?.startsWith('text/event-stream')) {
      throw new JelmoreError('What answers is no stream of events.', { final: true });
    }
    const parser = new EventParser();
    const reader = response.body.getReader();
    for (;;) {
      watch.within(limits.silenceMs);
      const { done, value } = await reader.read();
      watch.rest(); // how long the reader takes is not the service's silence
      if (done) return;
      yield* parser.feed(value);
    }
  } catch (error) {
    throw broken(error, watch);
  } finally {
    watch.stop();
  }
}

/**
 * Yield what one EventSource brings. It never gets to reconnect by itself: its ticket is used up.
 * @param {Opening} opening
 * @returns {AsyncGenerator<RawEvent, void>}
 */
async function* byEventSource({ url, limits, signal, onopen }) {
  /** @type {RawEvent[]} */
  const arrived = [];
  let fault = /** @type {JelmoreError | null} */ (null);
  let wake = () => {};
  const source = new globalThis.EventSource(url);
  /** @param {string} why */
  const fail = (why) => { fault ??= new JelmoreError(why); source.close(); wake(); };
  const stop = () => fail('closed');
  const timer = setTimeout(() => fail('The service did not answer in time.'), limits.answerMs);
  signal.addEventListener('abort', stop);
  source.onopen = () => { clearTimeout(timer); onopen(false); };
  source.onerror = () => fail('The connection broke.');
  for (const event of EVENTS) {
    source.addEventListener(event, (/** @type {MessageEvent} */ { data, lastEventId }) => {
      arrived.push({ event, data, id: lastEventId === '' || event === 'stream_error' ? null : Number(lastEventId) });
      if (arrived.length > MOST_QUEUED) fail('The reader is too slow.'); // what it has not got is asked for again
      wake();
    });
  }
  try {
    for (;;) {
      while (arrived.length) yield /** @type {RawEvent} */ (arrived.shift());
      if (fault) throw fault;
      await /** @type {Promise<void>} */ (new Promise((resolve) => { wake = resolve; }));
    }
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', stop);
    source.close();
  }
}

/**
 * Return what ended a connection or a request, as a JelmoreError.
 * @param {unknown} error
 * @param {Watch} watch
 */
function broken(error, watch) {
  if (error instanceof JelmoreError) return error;
  const why = watch.expired ? 'The service did not answer in time.' : `The connection broke: ${error}`;
  return new JelmoreError(why, { cause: error });
}

/**
 * @typedef {object} Following How a session's stream is followed.
 * @property {(opening: Opening) => AsyncGenerator<RawEvent, void>} connect
 * @property {(position: Record<string, string>) => Promise<string>} url
 * @property {() => Record<string, string>} headers
 * @property {(lastId: number) => Promise<boolean>} [hasEnded] Whether nothing follows: asked where a connection cannot tell.
 * @property {Resumption} resumption
 * @property {Limits} limits
 * @property {AbortSignal} signal
 * @property {() => void} [onopen]
 * @property {() => void} [onbreak]
 */

/**
 * Yield a stream's events over as many connections as it takes.
 * @param {Following} following
 * @returns {AsyncGenerator<RawEvent & {members: StreamEvent}, void>}
 */
async function* follow({ connect, url, headers, hasEnded, resumption, limits, signal, onopen, onbreak }) {
  while (!signal.aborted && !resumption.over) {
    let fault = /** @type {unknown} */ (null);
    let wasOpen = false;
    /** @param {boolean} nothingFollows */
    const note = (nothingFollows) => {
      wasOpen = true;
      resumption.over = nothingFollows;
      resumption.opened();
      if (!nothingFollows) onopen?.();
    };
    try {
      const opening = { url: await url(resumption.position), headers: headers(), limits, signal, onopen: note };
      for await (const raw of connect(opening)) {
        const members = opened(raw);
        if (resumption.take(members)) yield { ...raw, members };
        if (resumption.over) return;
      }
    } catch (error) {
      fault = error;
    }
    onbreak?.();
    if (signal.aborted || resumption.over) return;
    if (!wasOpen && resumption.lastId !== null && await hasEnded?.(resumption.lastId)) return;
    await sleep(resumption.pause(fault), signal);
  }
}

// Streams with listeners.

/**
 * A session's stream with EventSource's interface, and what EventSource lacks: headers, tickets, resuming without loss, `state`.
 *
 * Listeners get MessageEvents: `data` is JSON, `lastEventId` the entry's number. `error` is dispatched once, when it is over with
 * an error (`event.error`, `event.data` its message): a connection that breaks is no error, it is opened again. `close` is
 * dispatched when it is over, `statechange` when `state` changes.
 */
export class JelmoreStream extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSED = 2;

  #controller = new AbortController();
  #resumption;
  #state;
  url;
  readyState = JelmoreStream.CONNECTING;
  /** @type {((event: Event) => void) | null} */
  onopen = null;
  /** @type {((event: MessageEvent) => void) | null} */
  onmessage = null;
  /** @type {((event: MessageEvent) => void) | null} */
  onerror = null;
  /** @type {((event: CustomEvent<State>) => void) | null} */
  onstatechange = null;

  /**
   * @param {string} url Of the stream: `…/sessions/<id>/stream`, with parameters but for the position.
   * @param {{headers?: Record<string, string>, after?: number | null, tail?: number | null, limits?: Partial<Limits>,
   *   ticket?: (() => Promise<string>) | null, hasEnded?: (lastId: number) => Promise<boolean>}} [options]
   *   With `ticket`, which is called for every connection, it is the browser's EventSource that connects.
   */
  constructor(url, { headers = {}, after = null, tail = null, limits = {}, ticket = null, hasEnded } = {}) {
    super();
    const all = { ...LIMITS, ...limits };
    this.url = String(new URL(url, globalThis.location?.href));
    this.#resumption = new Resumption(all, { after, tail });
    this.#state = new ConnectionState((state) => this.#say(new CustomEvent('statechange', { detail: state })), all.quietMs);
    this.#run({
      connect: ticket ? byEventSource : byFetch,
      url: async (position) => withParameters(this.url, ticket ? { ...position, ticket: await ticket() } : position),
      headers: () => headers,
      hasEnded,
      resumption: this.#resumption,
      limits: all,
      signal: this.#controller.signal,
      onopen: () => this.#opened(),
      onbreak: () => this.#broke(),
    });
  }

  /** What the connection is in. */
  get state() { return this.#state.state; }

  /** The number of the last entry that came; null before the first. */
  get lastId() { return this.#resumption.lastId; }

  /** End it. Nothing is dispatched any more but the change of state and `close`. */
  close() {
    this.#controller.abort();
    this.#over();
  }

  /** @param {Following} following */
  async #run(following) {
    await null; // who made this has not had time to listen
    try {
      for await (const { event, data, id, members } of follow(following)) {
        if (this.#controller.signal.aborted) break;
        this.#state.heard(event);
        this.#say(Object.assign(new MessageEvent(event, { data, lastEventId: id === null ? '' : String(id) }), { members }));
      }
    } catch (error) {
      this.#over(error);
    }
    this.#over();
  }

  #opened() {
    this.readyState = JelmoreStream.OPEN;
    this.#state.opened();
    this.#say(new Event('open'));
  }

  #broke() {
    if (this.readyState === JelmoreStream.CLOSED) return;
    this.readyState = JelmoreStream.CONNECTING;
    this.#state.closed();
  }

  /** @param {any} [error] */
  #over(error) {
    if (this.readyState === JelmoreStream.CLOSED) return;
    this.readyState = JelmoreStream.CLOSED;
    this.#state.closed();
    if (error) this.#say(Object.assign(new MessageEvent('error', { data: error.message }), { error }));
    this.#say(new Event('close'));
  }

  /** @param {Event} event */
  #say(event) {
    say(this, event);
  }
}

/**
 * Dispatch an event to listeners, and to the property `on…` of its name.
 * @param {any} target
 * @param {Event} event
 */
function say(target, event) {
  const property = target[`on${event.type}`];
  if (typeof property === 'function') target.addEventListener(event.type, property, { once: true });
  target.dispatchEvent(event);
  if (typeof property === 'function') target.removeEventListener(event.type, property);
}

/**
 * @param {string} url
 * @param {Record<string, string>} parameters
 */
function withParameters(url, parameters) {
  const whole = new URL(url);
  for (const [name, value] of Object.entries(parameters)) whole.searchParams.set(name, value);
  return String(whole);
}

// Sockets.

/**
 * @typedef {object} Pending A message that waits for its answer, which has its id.
 * @property {string} said
 * @property {boolean} sent On this connection.
 * @property {boolean} repeatable Whether it is sent again when the connection breaks.
 * @property {(answer: Record<string, any>) => void} resolve
 * @property {(error: unknown) => void} reject
 */

/**
 * A session's WebSocket with WebSocket's interface, that connects again when it breaks. Entries come once and in order; messages
 * that were not answered are sent again where that is safe: input under its id, so that the program gets it once.
 *
 * `message` events carry `data` (JSON) and `members`; `open` and `statechange` as they happen; `error` (`event.error`) and `close`
 * (`event.code`) once, when it is over.
 */
export class JelmoreSocket extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;

  #controller = new AbortController();
  #resumption;
  #state;
  #limits;
  #url;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Map<string, Pending>} In the order in which they were said. */
  #pending = new Map();
  /** @type {string[] | null} What was subscribed to last; a new connection is opened with it. */
  #events = null;
  readyState = JelmoreSocket.CONNECTING;
  /** @type {((event: Event) => void) | null} */
  onopen = null;
  /** @type {((event: MessageEvent) => void) | null} */
  onmessage = null;
  /** @type {((event: MessageEvent) => void) | null} */
  onerror = null;
  /** @type {((event: Event & {code: number}) => void) | null} */
  onclose = null;
  /** @type {((event: CustomEvent<State>) => void) | null} */
  onstatechange = null;

  /**
   * @param {(parameters: Record<string, string>) => Promise<string>} url Called for every connection: each takes a ticket.
   * @param {{after?: number | null, tail?: number | null, limits?: Partial<Limits>}} [options]
   */
  constructor(url, { after = null, tail = null, limits = {} } = {}) {
    super();
    this.#limits = { ...LIMITS, ...limits };
    this.#url = url;
    this.#resumption = new Resumption(this.#limits, { after, tail });
    this.#state = new ConnectionState((state) => say(this, new CustomEvent('statechange', { detail: state })), this.#limits.quietMs);
    this.#run();
  }

  /** What the connection is in. */
  get state() { return this.#state.state; }

  /** The number of the last entry that came; null before the first. */
  get lastId() { return this.#resumption.lastId; }

  /**
   * Send input; sent again until it is acknowledged.
   * @param {string} content
   * @param {{newline?: boolean, raw?: boolean, id?: string}} [options]
   */
  sendInput(content, options = {}) { return this.request({ type: 'input', content, ...options }); }

  /** Ask whether the service is there. */
  ping() { return this.request({ type: 'ping' }); }

  /** Ask for the session's status and how much it has printed. */
  getStatus() { return this.request({ type: 'get_status' }); }

  /**
   * Choose the events to be sent, and from behind which entry.
   * @param {string[]} events
   * @param {number} [after]
   */
  subscribe(events, after) {
    this.#events = events;
    if (after !== undefined) this.#resumption.lastId = after;
    return this.request({ type: 'subscribe', events, after });
  }

  /**
   * @param {number} rows
   * @param {number} cols
   */
  resize(rows, cols) { return this.request({ type: 'resize', rows, cols }); }

  /** End the input. */
  eof() { return this.request({ type: 'eof' }); }

  /** @param {string} [reason] */
  terminate(reason) { return this.request({ type: 'terminate', reason }); }

  /** @param {string} name */
  signal(name) { return this.request({ type: 'signal', signal: name }, { repeatable: false }); }

  /** Do what ^C does. */
  interrupt() { return this.request({ type: 'interrupt' }, { repeatable: false }); }

  /**
   * Decide what the session's program asked for.
   * @param {string} requestId
   * @param {{decision: 'allow' | 'deny', input?: object, message?: string, remember?: 'once' | 'session'}} decision
   */
  answer(requestId, decision) {
    return this.request({ type: 'answer', request_id: requestId, ...decision }, { repeatable: false });
  }

  /**
   * Send a message and wait for its answer: as soon as there is a connection, and again if that breaks before the answer comes.
   * @param {Record<string, any>} message
   * @param {{repeatable?: boolean}} [options] What is not repeatable is sent once, at once, or not at all.
   * @returns {Promise<Record<string, any>>} The answer. Whoever does not care may leave it, also where it is an error.
   */
  request(message, { repeatable = true } = {}) {
    const answered = new Promise((resolve, reject) => {
      const { id = newId() } = message;
      const said = JSON.stringify({ ...message, id });
      if (this.readyState >= JelmoreSocket.CLOSING) throw new JelmoreError('The connection is closed.');
      if (!repeatable && this.readyState !== JelmoreSocket.OPEN) throw new JelmoreError('There is no connection just now.');
      if (this.#pending.has(id)) throw new JelmoreError('A message of this id is under way already.');
      if (this.#pending.size >= MOST_PENDING) throw new JelmoreError('Too many messages wait for their answers.');
      if (new TextEncoder().encode(said).length > MESSAGE_BYTES) {
        throw new JelmoreError(`A message has at most ${MESSAGE_BYTES} bytes.`, { errorCode: 'BODY_TOO_LARGE' });
      }
      this.#pending.set(id, { said, sent: !repeatable, repeatable, resolve, reject });
      if (repeatable) this.#pump(); else this.#socket?.send(said);
    });
    answered.catch(() => {}); // left alone it is no unhandled rejection
    return answered;
  }

  /**
   * Send any message, as WebSocket does: now or never.
   * @param {string} said
   */
  send(said) {
    if (this.readyState !== JelmoreSocket.OPEN) throw new DOMException('There is no connection just now.', 'InvalidStateError');
    this.#socket?.send(said);
  }

  /** End it. */
  close() {
    this.#controller.abort();
    this.#over(1000);
  }

  async #run() {
    const { signal } = this.#controller;
    await null; // who made this has not had time to listen
    try {
      while (!signal.aborted && !this.#resumption.over) {
        let fault = /** @type {unknown} */ (null);
        try {
          const events = this.#events && { events: this.#events.join(',') };
          await this.#connect(await this.#url({ ...this.#resumption.position, ...events }));
        } catch (error) {
          fault = error;
        }
        if (signal.aborted || this.#resumption.over) break;
        this.#broke();
        await sleep(this.#resumption.pause(fault), signal);
      }
      this.#over(1000);
    } catch (error) {
      this.#over(error instanceof JelmoreError && error.status === 401 ? 4401 : 1006, error);
    }
  }

  /**
   * Use one connection until it is closed.
   * @param {string} url
   * @returns {Promise<void>}
   */
  #connect(url) {
    return new Promise((resolve, reject) => {
      const { signal } = this.#controller;
      if (signal.aborted) { resolve(); return; }
      const socket = new WebSocket(url, ['jelmore.v1']);
      const end = () => socket.close(1000);
      const late = () => { done(new JelmoreError('The service did not answer in time.')); socket.close(); };
      // Asked first, for the timers of pages in the background are late themselves.
      const ask = () => { socket.send('{"type":"ping"}'); timer = setTimeout(late, Math.max(0, this.#limits.silenceMs - PING_MS)); };
      let timer = setTimeout(late, this.#limits.answerMs);
      /** @param {unknown} [error] */
      const done = (error) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        [socket.onmessage, socket.onclose, this.#socket] = [null, null, null];
        if (error) reject(error); else resolve();
      };
      signal.addEventListener('abort', end);
      socket.onopen = () => this.#opened(socket);
      socket.onmessage = ({ data }) => {
        clearTimeout(timer);
        timer = setTimeout(ask, Math.min(PING_MS, this.#limits.silenceMs));
        try { this.#take(data); } catch (error) { done(error); socket.close(); }
        // What brought the end is answered behind it; the service closes when nothing is left to be said.
        if (this.#resumption.over && this.#pending.size === 0) socket.close(1000);
      };
      socket.onclose = ({ code, reason }) => {
        this.#resumption.over ||= code === 1000;
        done(closing(code, reason));
      };
    });
  }

  /** @param {WebSocket} socket */
  #opened(socket) {
    this.#socket = socket;
    this.#resumption.opened();
    this.readyState = JelmoreSocket.OPEN;
    this.#state.opened();
    this.#pump();
    say(this, new Event('open'));
  }

  #broke() {
    this.readyState = JelmoreSocket.CONNECTING;
    this.#state.closed();
    for (const [id, pending] of this.#pending) {
      pending.sent = false;
      if (!pending.repeatable) {
        this.#pending.delete(id);
        pending.reject(new JelmoreError('The connection broke: nobody knows whether it was done.'));
      }
    }
  }

  /** Send what waits, in its order, but no more at once than the service takes from one connection. */
  #pump() {
    if (this.readyState !== JelmoreSocket.OPEN) return;
    let underWay = 0;
    for (const pending of this.#pending.values()) {
      if (underWay >= AT_ONCE) return;
      underWay += 1;
      if (!pending.sent) this.#socket?.send(pending.said);
      pending.sent = true;
    }
  }

  /** @param {string} data */
  #take(data) {
    const members = opened({ event: '', id: null, data }).data;
    if (typeof members !== 'object' || members === null) throw new JelmoreError('A message is no JSON object.', { final: true });
    const { event, seq = null } = members;
    this.#resumption.take({ event, data: members, id: seq });
    this.#settle(members);
    this.#state.heard(event);
    say(this, Object.assign(new MessageEvent('message', { data, lastEventId: seq === null ? '' : String(seq) }), { members }));
  }

  /** @param {Record<string, any>} members */
  #settle({ seq, id, ...answer }) {
    const pending = seq === undefined && typeof id === 'string' ? this.#pending.get(id) : undefined;
    if (!pending) return;
    this.#pending.delete(id);
    if (answer.event === 'error') pending.reject(new JelmoreError(answer.detail, { errorCode: answer.error_code }));
    else pending.resolve({ id, ...answer });
    this.#pump();
  }

  /**
   * @param {number} code
   * @param {unknown} [error]
   */
  #over(code, error) {
    if (this.readyState === JelmoreSocket.CLOSED) return;
    this.readyState = JelmoreSocket.CLOSED;
    this.#state.closed();
    const unknown = error ?? new JelmoreError('The connection was closed before this was answered.');
    for (const { reject } of this.#pending.values()) reject(unknown);
    this.#pending.clear();
    if (error) {
      say(this, Object.assign(new MessageEvent('error', { data: error instanceof Error ? error.message : '' }), { error }));
    }
    say(this, Object.assign(new Event('close'), { code }));
  }
}

/**
 * Return what a closed socket says; nothing where it is to be opened again.
 * @param {number} code
 * @param {string} reason
 */
function closing(code, reason) {
  const why = `The connection was closed: ${code} ${reason}`.trim();
  const [status, errorCode] = { 4401: [401, 'INVALID_API_KEY'], 4404: [404, 'SESSION_NOT_FOUND'], 1009: [413, 'BODY_TOO_LARGE'] }[
    /** @type {4401} */ (code)] ?? [0, null];
  return new JelmoreError(why, { status, errorCode });
}

// The client.

/**
 * @typedef {object} StreamOptions
 * @property {number | null} [after] An entry's number: what follows it comes.
 * @property {number | null} [tail] Lines.
 * @property {string[]} [events] Kinds of events that are wanted.
 * @property {'utf-8' | 'base64'} [encoding] With base64 `bytes(event)` is exact whatever was printed.
 * @property {'fetch' | 'eventsource'} [transport]
 * @property {AbortSignal} [signal]
 */

/** Speaks to one service with one key. */
export class JelmoreClient {
  #api;
  #ticket;

  /**
   * @param {string} baseUrl Of the service; empty for the one that the page comes from.
   * @param {string | null} apiKey Whoever can read the page can read it: for pages of others' hand out tickets instead.
   * @param {{apiPrefix?: string, limits?: Partial<Limits>,
   *   ticket?: (sessionId: string, scopes: string[]) => Promise<string>}} [options] `ticket`: where tickets come from.
   */
  constructor(baseUrl, apiKey, { apiPrefix = '/api', limits = {}, ticket } = {}) {
    this.baseUrl = baseUrl.replace(/\/+$/, '');
    /** @type {Record<string, string>} */
    this.headers = apiKey === null ? {} : { Authorization: `Bearer ${apiKey}` };
    this.limits = { ...LIMITS, ...limits };
    this.#api = `${this.baseUrl}${apiPrefix.replace(/\/+$/, '')}/v1`;
    this.#ticket = ticket ?? (async (sessionId, scopes) => (await this.ticket(sessionId, scopes)).ticket);
  }

  // Sessions.

  /**
   * Create a session.
   * @param {string} query
   * @param {string | null} [userId]
   * @param {Record<string, any>} [fields] As the API has them: program, metadata, env, terminal, timeout_minutes …
   * @param {{idempotencyKey?: string}} [options] Sent again with the same key it is the same session.
   */
  createSession(query, userId = null, fields = {}, { idempotencyKey = newId() } = {}) {
    return this.#json('POST', '/sessions', {
      body: { query, user_id: userId, ...fields }, headers: { 'Idempotency-Key': idempotencyKey },
    });
  }

  /** @param {string} sessionId */
  getSession(sessionId) { return this.#json('GET', at(sessionId)); }

  /**
   * List sessions, newest first: one page.
   * @param {Record<string, any>} [wanted] user_id, status (one or many), program, metadata, created_after, created_before, limit
   * @returns {Promise<Record<string, any>[]>}
   */
  async listSessions(wanted = {}) { return (await this.#page(wanted)).page; }

  /**
   * Yield sessions, newest first, page after page.
   * @param {Record<string, any>} [wanted]
   */
  async* sessions(wanted = {}) {
    let cursor = /** @type {string | null} */ (null);
    do {
      const { page, next } = await this.#page(wanted, cursor);
      yield* page;
      cursor = next;
    } while (cursor !== null);
  }

  /**
   * @param {Record<string, any>} wanted
   * @param {string | null} [cursor]
   */
  async #page({ metadata = {}, ...wanted }, cursor = null) {
    const filters = Object.entries(metadata).map(([name, value]) => [`metadata.${name}`, value]);
    const query = { ...wanted, ...Object.fromEntries(filters), cursor };
    const response = await this.#send('GET', '/sessions', { query });
    return { page: await response.json(), next: nextCursor(response.headers.get('link')) };
  }

  /**
   * End a session, and wait for its end up to 25 s. It is no error if it has ended already.
   * @param {string} sessionId
   * @param {{reason?: string, waitSeconds?: number}} [options]
   */
  terminate(sessionId, { reason, waitSeconds = 10 } = {}) {
    return this.#json('DELETE', at(sessionId), { query: { reason, wait: waitSeconds }, waitsMs: waitSeconds * 1000 });
  }

  /**
   * Wait until one thing is true of a session.
   * @param {string} sessionId
   * @param {{status?: string | string[], exit?: true, text?: string, regex?: string, idle_ms?: number}} until Exactly one.
   * @param {{fromOffset?: number, timeoutSeconds?: number}} [options]
   * @returns {Promise<Record<string, any>>} `matched` is false when the time is over, or when it cannot come true any more.
   */
  async wait(sessionId, until, { fromOffset = 0, timeoutSeconds = 60 } = {}) {
    const deadline = performance.now() + timeoutSeconds * 1000;
    const wanted = typeof until.status === 'string' ? { status: [until.status] } : until;
    let [offset, sawEnd] = [fromOffset, false];
    for (;;) {
      const left = (deadline - performance.now()) / 1000;
      const seconds = Math.min(LONGEST_WAIT_SECONDS, Math.max(1, (until.idle_ms ?? 0) / 1000, left));
      const body = { until: wanted, from_offset: offset, timeout_seconds: seconds };
      const said = await this.#json('POST', at(sessionId, 'wait'), { body, waitsMs: seconds * 1000 });
      // An end that is seen for the first time may have come behind the look: an ended session answers at once.
      const ended = FINAL.includes(said.status);
      if (said.matched || (ended && sawEnd) || performance.now() >= deadline) return said;
      [offset, sawEnd] = [said.next_offset, ended];
    }
  }

  // Output and input.

  /**
   * Read a page of output, from a byte on, with what is said about it.
   * @param {string} sessionId
   * @param {{offset?: number, limit?: number, encoding?: 'utf-8' | 'base64'}} [options]
   */
  output(sessionId, options = {}) { return this.#json('GET', at(sessionId, 'output'), { query: options }); }

  /**
   * Read exactly what was printed until now, from a byte on.
   * @param {string} sessionId
   * @param {{offset?: number}} [options]
   */
  async outputBytes(sessionId, { offset = 0 } = {}) {
    const pages = [];
    for (let size = PAGE_BYTES, from = offset; size === PAGE_BYTES; from += size) {
      const query = { offset: from, limit: PAGE_BYTES };
      const response = await this.#send('GET', at(sessionId, 'output'), { query, headers: { Accept: 'text/plain' } });
      const page = await response.arrayBuffer();
      size = page.byteLength;
      pages.push(page);
    }
    return new Uint8Array(await new Blob(pages).arrayBuffer());
  }

  /**
   * Read what was printed until now; bytes that are no UTF-8 become U+FFFD.
   * @param {string} sessionId
   * @param {{offset?: number}} [options]
   */
  async outputText(sessionId, options = {}) {
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(await this.outputBytes(sessionId, options));
  }

  /**
   * Send input: durable, and in its place, when this is fulfilled.
   * @param {string} sessionId
   * @param {string} input
   * @param {{newline?: boolean, raw?: boolean, metadata?: object, idempotencyKey?: string}} [options]
   */
  sendInput(sessionId, input, { idempotencyKey = newId(), ...fields } = {}) {
    return this.#json('POST', at(sessionId, 'input'), {
      body: { input, ...fields }, headers: { 'Idempotency-Key': idempotencyKey },
    });
  }

  /**
   * List what was asked of a session, and how far each has come.
   * @param {string} sessionId
   * @param {{after?: number, limit?: number}} [options]
   */
  inputs(sessionId, options = {}) { return this.#json('GET', at(sessionId, 'inputs'), { query: options }); }

  /**
   * @param {string} sessionId
   * @param {string} signal
   */
  signal(sessionId, signal) { return this.#ask(sessionId, 'signal', { signal }, false); }

  /** @param {string} sessionId */
  interrupt(sessionId) { return this.#ask(sessionId, 'interrupt', {}, false); }

  /** @param {string} sessionId */
  eof(sessionId) { return this.#ask(sessionId, 'eof', {}, true); }

  /**
   * @param {string} sessionId
   * @param {number} rows
   * @param {number} cols
   */
  resize(sessionId, rows, cols) { return this.#ask(sessionId, 'resize', { rows, cols }, true); }

  /**
   * Let the session run so many minutes from now.
   * @param {string} sessionId
   * @param {number} timeoutMinutes
   */
  extend(sessionId, timeoutMinutes) { return this.#ask(sessionId, 'extend', { timeout_minutes: timeoutMinutes }, true); }

  /**
   * Go on with an ended session's conversation, in a new session.
   * @param {string} sessionId
   * @param {string} query
   * @param {{idempotencyKey?: string, [member: string]: any}} [options]
   */
  resume(sessionId, query, { idempotencyKey = newId(), ...fields } = {}) {
    return this.#json('POST', at(sessionId, 'resume'), {
      body: { query, ...fields }, headers: { 'Idempotency-Key': idempotencyKey },
    });
  }

  /**
   * List what a session's program wants decided.
   * @param {string} sessionId
   * @param {{state?: 'open' | 'allowed' | 'denied' | 'withdrawn'}} [options]
   */
  requests(sessionId, options = {}) { return this.#json('GET', at(sessionId, 'requests'), { query: options }); }

  /**
   * Decide what a program asked for.
   * @param {string} sessionId
   * @param {string} requestId
   * @param {{decision: 'allow' | 'deny', input?: object, message?: string, remember?: 'once' | 'session'}} decision
   */
  decide(sessionId, requestId, decision) {
    return this.#ask(sessionId, `requests/${encodeURIComponent(requestId)}`, decision, false);
  }

  /**
   * @param {string} sessionId
   * @param {string} what
   * @param {object} body
   * @param {boolean} repeatable
   */
  #ask(sessionId, what, body, repeatable) {
    return this.#json('POST', at(sessionId, what), { body, repeatable, waitsMs: 5_000 });
  }

  // Streams.

  /**
   * Yield a session's events until after its end. Leaving the loop ends it.
   * @param {string} sessionId
   * @param {StreamOptions} [options]
   * @returns {AsyncGenerator<StreamEvent, void>}
   */
  async* stream(sessionId, { after = null, tail = null, transport = 'fetch', signal, ...options } = {}) {
    const watch = new Watch(signal);
    const ticket = transport === 'eventsource' ? () => this.#ticket(sessionId, ['read']) : null;
    const url = this.#streamUrl(sessionId, options);
    try {
      const following = {
        connect: ticket ? byEventSource : byFetch,
        url: async (/** @type {Record<string, string>} */ position) =>
          withParameters(url, ticket ? { ...position, ticket: await ticket() } : position),
        headers: () => this.headers,
        hasEnded: (/** @type {number} */ lastId) => this.#hasEnded(sessionId, lastId),
        resumption: new Resumption(this.limits, { after, tail }),
        limits: this.limits,
        signal: watch.signal,
      };
      for await (const { members } of follow(following)) yield members;
    } finally {
      watch.stop();
    }
  }

  /**
   * Follow a session with listeners.
   * @param {string} sessionId
   * @param {Omit<StreamOptions, 'signal'>} [options]
   */
  openStream(sessionId, { after = null, tail = null, transport = 'fetch', ...options } = {}) {
    return new JelmoreStream(this.#streamUrl(sessionId, options), {
      headers: this.headers,
      after,
      tail,
      limits: this.limits,
      ticket: transport === 'eventsource' ? () => this.#ticket(sessionId, ['read']) : null,
      hasEnded: (lastId) => this.#hasEnded(sessionId, lastId),
    });
  }

  /**
   * Follow a session with callbacks.
   * @param {string} sessionId
   * @param {(content: string) => void} onOutput
   * @param {(status: string) => void} [onStatus] Also gets the last one: completed, terminated or failed.
   * @param {(error: JelmoreError) => void} [onError] Called when it is over with an error; and for a gap, after which it goes on.
   * @param {Omit<StreamOptions, 'signal' | 'encoding'>} [options]
   */
  streamOutput(sessionId, onOutput, onStatus, onError, options = {}) {
    const stream = this.openStream(sessionId, options);
    stream.addEventListener('output', (/** @type {any} */ event) => onOutput(event.members.data.content));
    stream.addEventListener('status', (/** @type {any} */ event) => onStatus?.(event.members.data.status));
    stream.addEventListener('error', (/** @type {any} */ event) => onError?.(event.error));
    stream.addEventListener('gap', (/** @type {any} */ { members: { data: { from, to, reason } } }) =>
      onError?.(new JelmoreError(`Output is missing (${reason}): entries ${from} to ${to}.`, { errorCode: 'OUTPUT_LOST' })));
    return stream;
  }

  /**
   * Open a WebSocket to a session: what is printed comes, input can be sent.
   * @param {string} sessionId
   * @param {(message: Record<string, any>) => void} [onMessage]
   * @param {{after?: number | null, tail?: number | null, events?: string[], scopes?: string[]}} [options]
   */
  connectWebSocket(sessionId, onMessage, { after = null, tail = null, events, scopes = ['read', 'write'] } = {}) {
    const base = new URL(`${this.#api}${at(sessionId, 'ws')}`, globalThis.location?.href);
    base.protocol = base.protocol.replace('http', 'ws');
    if (events) base.searchParams.set('events', events.join(','));
    const url = async (/** @type {Record<string, string>} */ position) =>
      withParameters(String(base), { ...position, ticket: await this.#ticket(sessionId, scopes) });
    const socket = new JelmoreSocket(url, { after, tail, limits: this.limits });
    socket.addEventListener('message', (/** @type {any} */ event) => onMessage?.(event.members));
    return socket;
  }

  /**
   * Get a ticket, with which one stream of a session is opened: single use, half a minute.
   * @param {string} sessionId
   * @param {string[]} [scopes]
   */
  ticket(sessionId, scopes = ['read']) { return this.#json('POST', at(sessionId, 'tickets'), { body: { scopes } }); }

  /**
   * @param {string} sessionId
   * @param {{events?: string[], encoding?: string}} options
   */
  #streamUrl(sessionId, { events, encoding }) {
    const url = String(new URL(`${this.#api}${at(sessionId, 'stream')}`, globalThis.location?.href));
    return withParameters(url, { ...(events && { events: events.join(',') }), ...(encoding && { encoding }) });
  }

  /**
   * Whether a session is over and nothing follows an entry: EventSource cannot say so. Who has only tickets is not told.
   * @param {string} sessionId
   * @param {number} lastId
   */
  async #hasEnded(sessionId, lastId) {
    if (!this.headers.Authorization) return false;
    try {
      const session = await this.getSession(sessionId);
      return session.terminated_at !== null && lastId >= session.last_seq;
    } catch {
      return false; // the next try to connect says what is wrong
    }
  }

  // The service.

  /** Show how the service is: an answer even if it is unhealthy. */
  async health() {
    const response = await this.#once('GET', `${this.baseUrl}/health`, {});
    return response.json();
  }

  /** Show the service's numbers. */
  stats() { return this.#json('GET', '/stats'); }

  // Sending.

  /**
   * @typedef {object} Request
   * @property {Record<string, any>} [query]
   * @property {object} [body]
   * @property {Record<string, string>} [headers]
   * @property {number} [waitsMs] How long the service was asked to wait before it answers.
   * @property {boolean} [repeatable] Whether sending it twice does what sending it once does.
   */

  /**
   * @param {string} method
   * @param {string} path
   * @param {Request} [request]
   * @returns {Promise<Record<string, any>>}
   */
  async #json(method, path, request = {}) {
    const response = await this.#send(method, path, request);
    try {
      return await response.json();
    } catch (cause) {
      throw new JelmoreError('The answer is no JSON: something else answers there.', { status: response.status, cause });
    }
  }

  /**
   * Send a request until it is answered; throws a JelmoreError.
   * @param {string} method
   * @param {string} path
   * @param {Request} request
   */
  async #send(method, path, request) {
    for (let failures = 1; ; failures += 1) {
      try {
        const response = await this.#once(method, this.#api + path, request);
        if (!response.ok) throw errorOf(response.status, await response.text(), response.headers);
        return response;
      } catch (error) {
        if (failures > this.limits.retries || !mayHelp(error, request.repeatable ?? true)) throw error;
        const pause = /** @type {JelmoreError} */ (error).retryAfterMs + pauseMs(failures, this.limits);
        await sleep(pause, new AbortController().signal);
      }
    }
  }

  /**
   * Send a request once; its answer is read whole.
   * @param {string} method
   * @param {string} url
   * @param {Request} request
   */
  async #once(method, url, { query = {}, body, headers = {}, waitsMs = 0 }) {
    const watch = new Watch(undefined);
    watch.within(this.limits.answerMs + waitsMs);
    try {
      const response = await fetch(url + search(query), {
        method,
        headers: { ...this.headers, ...(body && { 'Content-Type': 'application/json' }), ...headers },
        body: body && JSON.stringify(body),
        signal: watch.signal,
        cache: 'no-store',
        redirect: 'error',
      });
      const whole = response.status === 204 ? null : await response.arrayBuffer();
      return new Response(whole?.byteLength ? whole : null, { status: response.status, headers: response.headers });
    } catch (error) {
      throw broken(error, watch);
    } finally {
      watch.stop();
    }
  }
}

/**
 * Return the path of a session; what is no id stays within it.
 * @param {string} sessionId
 * @param {string[]} more
 */
function at(sessionId, ...more) {
  const name = encodeURIComponent(sessionId).replace(/^\.{0,2}$/, '-'); // dots would be a directory, nothing the list
  return ['/sessions', name, ...more].join('/');
}

/**
 * @param {Record<string, any>} query Members that are undefined or null are left out, lists become many parameters.
 */
function search(query) {
  const pairs = Object.entries(query).flatMap(([name, value]) => [value].flat().map((one) => [name, one]));
  const given = pairs.filter(([, value]) => value !== undefined && value !== null).map(([name, value]) => [name, String(value)]);
  return given.length ? `?${new URLSearchParams(given)}` : '';
}

/**
 * Return where the next page begins. Only that is taken of the URL: whoever stands between may know the service by another name.
 * @param {string | null} link
 */
export function nextCursor(link) {
  const found = /<[^>]*[?&]cursor=([^&>]+)[^>]*>\s*;\s*rel="?next\b/.exec(link ?? '');
  return found ? decodeURIComponent(found[1].replaceAll('+', ' ')) : null;
}

/**
 * Whether a request that failed so is to be sent again.
 * @param {unknown} error
 * @param {boolean} repeatable
 */
export function mayHelp(error, repeatable) {
  if (!(error instanceof JelmoreError) || error.retryAfterMs > LONGEST_RETRY_AFTER_MS) return false;
  if (['RATE_LIMITED', 'IDEMPOTENCY_IN_PROGRESS'].includes(String(error.errorCode))) return true;
  return repeatable && [0, 502, 503, 504].includes(error.status);
}

export { JelmoreStream as EventSource };
