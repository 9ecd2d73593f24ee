// The token of a sign-in. It is in memory only: never in an address, a cookie or a storage that outlives
// the tab. A new tab asks the open ones for it. Until a node has access tokens nobody signs in, and
// every request goes without.

let token = '';
const channel = typeof BroadcastChannel === 'function' ? new BroadcastChannel('hstore-token') : null;
const listeners = new Set();

if (channel) {
  channel.onmessage = ({data}) => {
    if (data && data.ask && token) channel.postMessage({token});
    else if (data && typeof data.token === 'string' && data.token !== token) take(data.token);
  };
  channel.postMessage({ask: true});
}

function take(next) {
  token = next;
  for (const listener of listeners) listener(token);
}

export function current() { return token; }

// Sign in (or out, with ''), here and in every other open tab.
export function signIn(next) {
  take(next);
  if (channel) channel.postMessage({token: next});
}

export function onToken(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function headers() {
  return token ? {'X-Consul-Token': token} : {};
}
