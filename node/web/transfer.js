// Export and import of keys as JSON, in the form of Consul's `kv export`.

import {setText} from './dom.js';
import {ask, fileName} from './browse.js';
import {badFlags, keyPath} from './kv.js';
import {fromBase64, isSame} from './values.js';

const MOST = 64 << 20;       // Of a file that is made here: the whole of it is in memory.
const RECEIVED_MAX = 96 << 20;
const AT_ONCE = 4;
const SHOWN = 20;
const encoder = new TextEncoder();

// -- export -----------------------------------------------------------------------------------------

export async function exportKeys({api, el, parts, format}, prefix) {
  const end = new AbortController();
  const path = ask(keyPath(prefix), {recurse: ''});
  try {
    const {entries} = await api.get(ask('/v1/ui/keys', {prefix, limit: 1}));
    if (!entries.length) {
      parts.toast(`There is no key${prefix ? ` below ${prefix}` : ''}: nothing to export`, 'info');
      return;
    }
    const answer = await api.get(path, {raw: true, signal: end.signal, timeoutMs: 600000});
    const text = await whole(answer, end);
    const blob = text === null ? null : new Blob([exported(text)], {type: 'application/json'});
    if (blob === null || blob.size > MOST) { tooMuch({el, parts}, prefix); return; }
    const url = URL.createObjectURL(blob);
    const link = el('a', {href: url, download: fileName(prefix)});
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    parts.toast(`${format.plural(JSON.parse(text).length, 'key')} exported, ${format.bytes(blob.size)}`, 'ok');
  } catch (error) {
    parts.toast(error.text || error.message, 'bad');
  }
}

// The text of an answer; null: it is too long for a browser.
async function whole(answer, end) {
  const reader = answer.body.getReader(), pieces = [];
  let size = 0;
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return new Blob(pieces).text();
    pieces.push(value);
    size += value.length;
    if (size > RECEIVED_MAX) { end.abort(); return null; }
  }
}

// Flags may be too large for a number, so their digits are kept as they came.
function exported(text) {
  const digits = [...text.matchAll(/"Flags":(\d+)/g)].map((match) => match[1]);
  const lines = JSON.parse(text).map((one, at) =>
    `\t{\n\t\t"key": ${JSON.stringify(one.Key)},\n\t\t"flags": ${digits[at]},\n\t\t"value": ${JSON.stringify(one.Value || '')}\n\t}`);
  return `[\n${lines.join(',\n')}\n]\n`;
}

function tooMuch({el, parts}, prefix) {
  const quoted = `'${prefix.replaceAll("'", "'\\''")}'`, file = fileName(prefix);
  parts.confirm({
    title: 'More than 64 MiB', action: 'Close',
    effect: ['That is too much for a browser, which holds all of it in memory. Do it on the command line:',
      el('pre', {class: 'value', tabindex: '0'}, `hstore export ${quoted} > ${file}`),
      'Where this version of hstore has no such command yet (hstore --help lists them), this reads the same keys, as the API shows them:',
      el('pre', {class: 'value', tabindex: '0'}, `curl '${location.origin}${ask(keyPath(prefix), {recurse: ''})}' > ${file}`)],
  });
}

// -- import -----------------------------------------------------------------------------------------

export function importKeys(ctx, prefix, onDone) {
  const {el, parts} = ctx;
  const input = el('input', {type: 'file', accept: '.json,application/json', class: 'aside', 'aria-label': 'File to import', tabindex: '-1'});
  input.addEventListener('change', async () => {
    const [file] = input.files;
    input.remove();
    if (!file) return;
    try {
      if (file.size > MOST) throw new Error('The file has more than 64 MiB: import it by parts, or by hstore import FILE where hstore has that command.');
      await check(ctx, file.name, parse(await file.text()), onDone);
    } catch (error) {
      parts.toast(error.text || error.message, 'bad');
    }
  });
  input.addEventListener('cancel', () => input.remove());
  document.body.append(input);
  input.click();
}

// The keys of a file, each with its value as bytes and its flags as digits; every mistake is found before
// the first key is written.
function parse(text) {
  let found;
  // Where the browser tells how a number was written, large flags keep all their digits.
  const digits = (name, value, context) => (name === 'flags' && context && context.source ? context.source : value);
  try { found = JSON.parse(text, digits); } catch (error) { throw new Error(`The file is no JSON: ${error.message}`); }
  if (!Array.isArray(found)) throw new Error('The file has no list of keys: [{"key","flags","value"}, …] is expected, as consul kv export writes it.');
  const seen = new Set();
  return found.map((one, at) => {
    const fault = (what) => { throw new Error(`Entry ${at + 1}${one && typeof one.key === 'string' ? `, ${one.key.slice(0, 80)}` : ''}: ${what}. Nothing was imported.`); };
    if (!one || typeof one.key !== 'string' || !one.key) fault('it has no key');
    if (encoder.encode(one.key).length > 4096) fault('the key has more than 4,096 bytes');
    if (seen.has(one.key)) fault('the key is there twice');
    seen.add(one.key);
    const flags = String(one.flags ?? 0);
    if (badFlags(flags)) fault(`its flags: ${badFlags(flags)}`);
    if (typeof one.flags === 'number' && !Number.isSafeInteger(one.flags)) fault('its flags are too large a number for this browser');
    let bytes;
    try { bytes = fromBase64(one.value ?? ''); } catch { fault('its value is no base64'); }
    if (bytes.length > 1 << 20) fault('its value has more than 1 MiB');
    try { keyPath(one.key); } catch (error) { fault(error.message); }
    return {key: one.key, flags, bytes};
  });
}

async function check(ctx, name, entries, onDone) {
  const {el, parts, format} = ctx;
  if (!entries.length) throw new Error('The file has no keys: nothing to import.');
  const state = el('p', {class: 'hint', role: 'status'});
  const done = {made: 0, equal: 0, over: 0, different: []};
  const isDone = await parts.form({
    title: `Import ${format.plural(entries.length, 'key')}?`, action: 'Import',
    effect: [`From ${name}. Each key is written only if it is as it was when it was looked at: nobody's change is overwritten unseen.`, state],
    fields: [
      {name: 'prefix', label: 'Put before each key', value: '', hint: 'Empty: the keys are called as in the file'},
      {name: 'overwrite', label: 'Overwrite keys that are there with another value', kind: 'checkbox'},
    ],
    run: ({prefix, overwrite}) => run(ctx, entries, prefix, overwrite, done, () => setText(state,
      `${format.count(done.made + done.equal + done.over + done.different.length)} of ${format.count(entries.length)} …`)),
  });
  if (!isDone) { if (done.made || done.over) onDone(); return; }
  onDone();
  const {made, equal, over, different} = done;
  const summary = `${format.count(made)} created, ${format.count(over)} overwritten, ${format.count(equal)} equal already, ${format.count(different.length)} left as they are`;
  if (!different.length) { parts.toast(summary, 'ok'); return; }
  const list = el('ul', null, different.slice(0, SHOWN).map((key) => el('li', {class: 'mono'}, key)));
  if (different.length > SHOWN) list.append(el('li', {class: 'hint'}, `and ${format.count(different.length - SHOWN)} more`));
  parts.confirm({title: 'Imported, but for some', action: 'Close', effect: [summary, 'These have another value here, or changed meanwhile:', list]});
}

async function run({api}, entries, prefix, overwrite, done, tell) {
  const left = entries.values();
  done.made = done.equal = done.over = 0;
  done.different = [];
  async function some() {
    for (const one of left) { await put(api, {...one, key: prefix + one.key}, overwrite, done); tell(); }
  }
  await Promise.all(Array.from({length: AT_ONCE}, some));
}

async function put(api, {key, flags, bytes}, overwrite, done) {
  const write = (cas) => api.send('PUT', `${keyPath(key)}?cas=${cas}&flags=${flags}`, bytes);
  if (await write(0) === true) { done.made += 1; return; }
  const answer = await api.get(keyPath(key), {raw: true}).then((found) => found.text()).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  if (answer === null) { done.different.push(key); return; }
  const [there] = JSON.parse(answer);
  if (isSame(fromBase64(there.Value || ''), bytes) && /"Flags":(\d+)/.exec(answer)[1] === flags) done.equal += 1;
  else if (overwrite && await write(there.ModifyIndex) === true) done.over += 1;
  else done.different.push(key);
}

