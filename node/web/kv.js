// One key over HTTP: its path, its flags, and what is stored under it.

import {ask} from './browse.js';
import {fromBase64} from './values.js';

// Slashes are encoded, too: a browser would take `a/../b` for `b`, and write to another key.
export function keyPath(key) {
  if (key === '.' || key === '..') throw new Error(`A browser cannot ask for a key called ${key}: use hstore read -k ${key}`);
  return `/v1/kv/${encodeURIComponent(key)}`;
}

export function badFlags(text) {
  return /^\d{1,20}$/.test(text) && BigInt(text) < 1n << 64n ? '' : 'a whole number from 0 to 18,446,744,073,709,551,615 is expected';
}

// The revision and the lock of a key as this node has them, in one text; '': it is not there. Asked so
// often that a key which is gone must not be an error.
export async function mark(api, key, options = {}) {
  const {entries: [first]} = await api.get(ask('/v1/ui/keys', {prefix: key, limit: 1}), options);
  return first && first.key === key ? `${first.revision} ${first.locked}` : '';
}

// What is stored under a key, with its value as bytes and its flags as digits (they may be too large
// for a number); null: nothing.
export async function read(api, key, query = {}, options = {}) {
  let body;
  try {
    body = await (await api.get(ask(keyPath(key), query), {...options, raw: true})).text();
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
  const [entry] = JSON.parse(body);
  // No quote inside a string of JSON is a bare one, so this is no part of the key or the value.
  const flags = /"Flags":(\d+)/.exec(body)[1];
  return {key: entry.Key, bytes: fromBase64(entry.Value || ''), flags, revision: entry.ModifyIndex,
    created: entry.CreateIndex, lockIndex: entry.LockIndex, session: entry.Session || ''};
}
