// The SharedWorker of a browser: one stream for all tabs that show this node with one token.
// Chromium gives an origin six connections; with a stream for each tab, the seventh tab would hang.

import {follow} from './follow.js';

const ports = new Set();
let stop = null;
let last = new Map();
const STATES = ['back', 'lost', 'denied'];  // Of which one holds.

self.onconnect = ({ports: [port]}) => {
  port.onmessage = ({data}) => {
    if (data.hello !== undefined) join(port, data.hello);
    else if (data.bye) leave(port);
  };
  port.start();
};

function join(port, token) {
  ports.add(port);
  if (!stop) {
    last = new Map();
    stop = follow(token, tell);
  }
  for (const event of last.values()) port.postMessage(event);
}

function leave(port) {
  ports.delete(port);
  if (!ports.size && stop) { stop(); stop = null; last.clear(); }
}

function tell(event) {
  // A tab that opens later is told at once how things are.
  if (STATES.includes(event.kind)) for (const kind of STATES) last.delete(kind);
  if (event.kind === 'denied') last.clear();
  last.set(event.kind, event);
  for (const port of ports) port.postMessage(event);
}
