// Requests to this page's own node, and to no other.

import {current, headers, refused, wantsToken} from './token.js';

const TIMEOUT_MS = 10000;

// What went wrong, in words for a person: `text` says what happened and what to do.
// `status` is the HTTP status, 0 where there was no answer. `body` is the answer's text.
export class ApiError extends Error {
  constructor(status, text, body = '') {
    super(text);
    this.status = status;
    this.text = text;
    this.body = body;
  }
}

// The parsed body: of JSON the value, else the text. `options.raw` gives the Response instead, so that
// a caller can read its headers and bytes; `options.signal` aborts; `options.token` is tried in place of
// the one that this tab has.
export function get(path, options = {}) {
  return send('GET', path, undefined, options);
}

// `body`: an object is sent as JSON; a text, a Blob or bytes as they are.
export async function send(method, path, body, options = {}) {
  const used = options.token ?? current();
  const init = {method, headers: headers(used), cache: 'no-store', redirect: 'error'};
  if (body !== undefined) {
    const isPlain = typeof body === 'string' || body instanceof Blob || ArrayBuffer.isView(body)
      || body instanceof ArrayBuffer;
    init.body = isPlain ? body : JSON.stringify(body);
  } else if (method !== 'GET') {
    init.body = '';
  }
  const timeout = AbortSignal.timeout(options.timeoutMs || TIMEOUT_MS);
  init.signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
  let response;
  try {
    response = await fetch(path, init);
    if (options.raw && response.ok) return response;
    const text = await response.text();
    if (!response.ok) {
      if (options.token === undefined && wantsToken(response.status, text)) refused(used, text);
      throw new ApiError(response.status, words(response, text), text);
    }
    return isJson(response) ? JSON.parse(text) : text;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    if (options.signal && options.signal.aborted) throw error;
    const why = error.name === 'TimeoutError'
      ? 'This node has not answered in time. What was asked may still take effect: look before you repeat it.'
      : 'This node does not answer. It may be stopped, or cut off from this browser; the page tries again.';
    throw new ApiError(0, why);
  }
}

function isJson(response) {
  return (response.headers.get('content-type') || '').startsWith('application/json');
}

// What paths of Consul's clients say, whose texts are as Consul has them, and no more than that.
const LEADERLESS = /^(No cluster leader|leadership lost while committing log)$/;

function words({status, headers: more}, text) {
  let said = text.trim();
  try {
    said = JSON.parse(text).error || said;
  } catch { /* Paths of Consul's clients answer errors as plain text. */ }
  if (LEADERLESS.test(said)) {
    const outcome = more.get('x-hstore-outcome');
    if (outcome === 'unknown') return 'The leader was lost meanwhile. What was asked may still take effect: look before you repeat it.';
    return `The cluster has no leader at the moment${outcome ? ', so nothing was changed' : ''}: the page Cluster says what is missing. Try again when there is one.`;
  }
  // A sentence begins with a capital letter, and the name of a setting stays what it is.
  if (said) return /^[a-z]+[ ,]/.test(said) ? said[0].toUpperCase() + said.slice(1) : said;
  if (status === 404) return 'There is nothing of that name (any more).';
  if (status === 403) return 'This may only be done from the node\'s own machine: open the dashboard there.';
  if (status === 503) return 'The cluster has no leader at the moment: try again when it has one.';
  return `The node answered with status ${status}.`;
}
