// The stream of this page's node, as the pages see it: `live.on(kind, listener)`.
// Kinds: `cluster` (what /v1/cluster answers), `statistics` (the newest points), `lost`, `back`, and
// `denied`: the node wants a token, or another one.

import {follow} from './follow.js';
import {current, currentSession, onToken, refused, wantsToken} from './token.js';

class Live {
  constructor() {
    this.cluster = null;      // The newest of its kind, or null.
    this.statistics = null;
    this.lost = null;         // {why, since} while this page's node does not answer, else null.
    this.denied = null;       // {text} while the node refuses the stream, else null.
    this.isConnected = false; // Whether the node has answered since the page was opened.
    this._listeners = new Map();
    this._stop = null;
  }

  // Listen; what is known of that kind is told at once. Returns a function that ends it.
  on(kind, listener) {
    if (!this._listeners.has(kind)) this._listeners.set(kind, new Set());
    this._listeners.get(kind).add(listener);
    if (this[kind]) listener(this[kind]);
    return () => this._listeners.get(kind).delete(listener);
  }

  start() {
    this._begin();
    onToken(() => {
      this._end();
      // What one token may see is not for the next.
      this.cluster = this.statistics = this.lost = this.denied = null;
      this.isConnected = false;
      this._begin();
    });
    // A page that the browser keeps for its back button shall not hold the stream open.
    addEventListener('pagehide', () => this._end());
    addEventListener('pageshow', () => this._begin());
  }

  _begin() {
    if (this._stop) return;
    const tell = (event) => this._tell(event);
    this._stop = typeof SharedWorker === 'function' ? shared(tell) : follow(current(), tell);
  }

  _end() {
    if (this._stop) this._stop();
    this._stop = null;
  }

  _tell({kind, data}) {
    if (kind === 'back') { this.isConnected = true; this.lost = this.denied = null; }
    else this[kind] = data;
    if (kind === 'denied') {
      this.lost = null;
      if (wantsToken(403, data.text)) refused(current(), data.text);
    }
    for (const listener of this._listeners.get(kind) || []) {
      try { listener(data); } catch (error) { console.error(error); }
    }
  }
}

// The stream by way of the worker that all tabs with this token share.
function shared(tell) {
  const token = current();
  let worker, stop = null;
  try {
    worker = new SharedWorker('worker.js', {type: 'module', name: `hstore-${currentSession()}`});
  } catch {
    return follow(token, tell);
  }
  worker.onerror = () => { stop = stop || follow(token, tell); };
  worker.port.onmessage = ({data}) => tell(data);
  worker.port.start();
  worker.port.postMessage({hello: token});
  return () => {
    worker.port.postMessage({bye: true});
    worker.port.close();
    if (stop) stop();
  };
}

export const live = new Live();
