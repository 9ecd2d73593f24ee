// One stream of a node's events by `fetch`: an EventSource cannot send a token, and ends for good at a
// 503. When the stream ends, or is silent for longer than a node ever is, it is asked for again, with
// pauses of one second, for as long as anybody listens.

const PAUSE_MS = 1000;
// Where the node refuses it for want of a token: its rights may change, but each try is noted there.
const DENIED_MS = 15000;
// A node sends at least once a second.
const SILENT_MS = 5000;

// Call `tell({kind, data})` for each event: `cluster` and `statistics` with their JSON parsed, `lost`
// with {why, since} when the stream ends, `denied` with {text} when the node refuses it, `back` when it is
// there (again). Returns a function that ends it.
export function follow(token, tell) {
  const end = new AbortController();
  run(token, tell, end.signal);
  return () => end.abort();
}

async function run(token, tell, signal) {
  let since = 0;
  while (!signal.aborted) {
    let why = 'the node has ended the stream', isDenied = false;
    try {
      await read(token, tell, signal, () => { since = 0; });
    } catch (error) {
      isDenied = error.name === 'Denied';
      why = error instanceof TypeError || error.name === 'AbortError'
        ? 'the node does not answer' : error.message;
    }
    if (signal.aborted) return;
    since = isDenied ? 0 : since || Date.now();
    tell(isDenied ? {kind: 'denied', data: {text: why}} : {kind: 'lost', data: {why, since}});
    await new Promise((go) => setTimeout(go, isDenied ? DENIED_MS : PAUSE_MS));
  }
}

async function read(token, tell, signal, onBack) {
  const attempt = new AbortController();
  const stop = () => attempt.abort();
  signal.addEventListener('abort', stop);
  let silence = setTimeout(stop, SILENT_MS);
  try {
    const response = await fetch('/v1/ui/stream', {
      headers: token ? {'X-Consul-Token': token} : {},
      cache: 'no-store',
      signal: attempt.signal,
    });
    if (response.status === 403) throw Object.assign(new Error(await response.text()), {name: 'Denied'});
    if (!response.ok) throw new Error(`the node answered with status ${response.status}`);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '', isBack = false;
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      clearTimeout(silence);
      silence = setTimeout(stop, SILENT_MS);
      if (!isBack) { isBack = true; onBack(); tell({kind: 'back', data: null}); }
      text += value;
      let at;
      while ((at = text.indexOf('\n\n')) >= 0) {
        event(text.slice(0, at), tell);
        text = text.slice(at + 2);
      }
    }
  } finally {
    clearTimeout(silence);
    signal.removeEventListener('abort', stop);
    attempt.abort();
  }
}

function event(text, tell) {
  let kind = '', data = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('event: ')) kind = line.slice(7);
    else if (line.startsWith('data: ')) data += line.slice(6);
  }
  if (kind && data) tell({kind, data: JSON.parse(data)});
}
