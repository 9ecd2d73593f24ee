// The token of a sign-in. It is in memory only: never in an address, a cookie, a log or a storage that
// outlives the tab. A new tab asks the open ones for it.

let token = '';
let session = '';  // Drawn at each sign-in, so that a worker has a name which says nothing of the token.
const channel = typeof BroadcastChannel === 'function' ? new BroadcastChannel('hstore-token') : null;
const changed = new Set(), denied = new Set();

if (channel) {
  channel.onmessage = ({data}) => {
    if (data && data.ask && token) channel.postMessage({token, session});
    else if (data && typeof data.token === 'string' && data.token !== token) take(data.token, data.session);
  };
  channel.postMessage({ask: true});
}

function take(next, of) {
  token = next;
  session = of;
  for (const listener of changed) listener(token);
}

export function current() { return token; }

export function currentSession() { return session; }

// Sign in (or out, with ''), here and in every other open tab.
export function signIn(next) {
  take(next, next ? [...crypto.getRandomValues(new Uint32Array(2))].map((n) => n.toString(36)).join('') : '');
  if (channel) channel.postMessage({token, session});
}

export function onToken(listener) {
  changed.add(listener);
  return () => changed.delete(listener);
}

export function headers(of = token) {
  return of ? {'X-Consul-Token': of} : {};
}

// What a node says with 403 of a program that is not on its machine, or of a page of another site: no
// token helps there.
const NOT_OF_TOKENS = /own machine|browser|http\.hosts/;

// Whether an answer says that a token is missing, unknown or without the right.
export function wantsToken(status, text) {
  return status === 403 && /\b(ACL not found|Permission denied)\b/.test(text) && !NOT_OF_TOKENS.test(text);
}

// Say that a request with the token `used` was refused for it. `text`: what the node says.
export function refused(used, text) {
  if (used === token) for (const listener of denied) listener({used, text});
}

export function onRefused(listener) { denied.add(listener); }
