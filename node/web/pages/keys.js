// Keys: the tree of them, a search, one key's value and what is known of it, and how it is changed.
//
// A value is bytes. It is shown as text only where it is text, and edited as text only where a text
// field gives back exactly those bytes; everything else is shown and edited in hex.

import {replace, setText} from '../dom.js';
import {ask, pager, pause, tall} from '../browse.js';
import {badFlags, keyPath, mark, read} from '../kv.js';
import {exportKeys, importKeys} from '../transfer.js';
import {asHex, asText, fromHex, isSame, keepsText, prettyJson} from '../values.js';

export const title = 'Keys';

// A million of them are just below what Chromium can make a page tall (2^25 pixels).
const ROW = 33;
const LOOK_MS = 1000;
const LIST_MS = 3000;
const HEX_SHOWN = 8 * 1024;
const VALUE_MAX = 1 << 20;
const encoder = new TextEncoder();

function address(key) { return `#/keys/${key.split('/').map(encodeURIComponent).join('/')}`; }

export function mount(root, ctx) {
  const {api, el, parts, format} = ctx;
  const mayWrite = ctx.may('key write');
  let prefix = '', opened = null, mustList = false;

  const crumbs = el('nav', {class: 'crumbs', 'aria-label': 'Folder'});
  const state = el('div', {class: 'list-state', role: 'status'});
  const under = el('input', {type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'config/', oninput: () => later(() => list(under.value))});
  const text = el('input', {type: 'search', autocomplete: 'off', spellcheck: 'false', placeholder: 'anything', oninput: () => later(() => list(under.value))});
  const side = el('div', {class: 'stack', id: 'key'});
  const table = parts.table({
    caption: 'Keys', rowKey: (row) => row.folder ?? `\n${row.key}`, height: tall(380), rowHeight: ROW, onOpen: open, onEnd: () => pages.more(),
    columns: [
      {title: 'Key', render: name},
      {title: 'Size', class: 'num', render: (row) => (row.folder === undefined ? format.bytes(row.bytes) : '')},
      {title: 'Revision', class: 'num', render: (row) => (row.folder === undefined ? format.count(row.revision) : '')},
    ],
  });
  const pages = pager({
    page: (after, signal) => api.get(ask('/v1/ui/keys', {prefix, separator: '/', text: text.value, after, limit: text.value ? 100 : 500}), {signal}),
    entries: (page) => page.entries, set: (rows) => table.set(rows), say: told,
  });
  const stop = el('button', {type: 'button', onclick: () => { pages.stop(); replace(state, el('p', {class: 'hint'}, 'Stopped.')); }}, 'Stop');
  const deleteAll = el('button', {type: 'button', class: 'danger', onclick: removeAll, hidden: true}, 'Delete all below');
  const actions = mayWrite ? [
    el('button', {type: 'button', class: 'primary', onclick: create}, 'New key'),
    el('button', {type: 'button', onclick: () => exportKeys(ctx, prefix)}, 'Export'),
    el('button', {type: 'button', onclick: () => importKeys(ctx, prefix, again)}, 'Import'),
    deleteAll]
    : [el('button', {type: 'button', onclick: () => exportKeys(ctx, prefix)}, 'Export')];

  root.append(el('h1', {class: 'aside'}, title), el('div', {class: 'beside'},
    parts.panel('Keys', {end: actions},
      el('div', {class: 'tools'},
        el('label', {class: 'field grow'}, el('span', {class: 'hint'}, 'Keys that begin with'), under),
        el('label', {class: 'field grow'}, el('span', {class: 'hint'}, 'Key or value has'), text)),
      crumbs, table.node, state),
    side));

  let due = 0;
  function later(what) { clearTimeout(due); due = setTimeout(what, 250); }

  function name(row) {
    const from = text.value ? 0 : prefix.lastIndexOf('/') + 1;
    if (row.folder !== undefined) {
      return [el('span', {class: 'muted', 'aria-hidden': 'true'}, '▸ '), el('a', {class: 'mono', href: address(row.folder)}, row.folder.slice(from))];
    }
    const isOpen = opened && opened.key === row.key;
    return [el('a', {class: `mono${isOpen ? ' chosen' : ''}`, 'data-key': row.key, href: address(row.key), onclick: (event) => { event.preventDefault(); open(row); }},
      row.key.slice(from) || (row.key ? `${row.key} (this key)` : '')),
    row.locked ? [' ', parts.badge('info', 'locked')] : null, row.found ? el('span', {class: 'hint'}, ' in the value') : null];
  }

  function told({isBusy, error, isEmpty, rows, next}) {
    if (error) { replace(state, parts.problem(error, () => pages.more())); return; }
    if (isBusy && text.value) {
      replace(state, el('p', {class: 'hint'}, `Searching … ${format.plural(rows.length, 'key')} found`, next ? [', at ', el('code', null, next.slice(0, 80))] : null, ' '), stop);
    } else if (isBusy && !rows.length) replace(state, el('p', {class: 'hint'}, 'Looking …'));
    else if (!isBusy && isEmpty) {
      replace(state, text.value ? parts.empty('No key is like that', `No key${prefix ? ` below ${prefix}` : ''} has this in its name or its value.`)
        : prefix ? parts.empty('No key begins so', `There is none below ${prefix}.`)
          : parts.empty('There are no keys yet', mayWrite ? 'Make the first by "New key", or by: hstore write -k KEY -v VALUE' : 'Make the first by: hstore write -k KEY -v VALUE'));
    } else if (!isBusy && next === null && rows.length) replace(state, el('p', {class: 'hint'}, `${format.count(rows.length)} ${rows.length === 1 ? 'entry' : 'entries'}, all of them`));
    else replace(state);
  }

  function list(next) {
    prefix = next;
    mustList = false;
    deleteAll.hidden = !prefix;
    if (under.value !== next) under.value = next;
    const steps = prefix.split('/'), links = [crumb('', 'all')];
    steps.slice(0, -1).forEach((step, at) => links.push(' / ', crumb(`${steps.slice(0, at + 1).join('/')}/`, step || '(empty)')));
    if (steps.at(-1)) links.push(' / ', el('span', {class: 'mono'}, `${steps.at(-1)}…`));
    replace(crumbs, links);
    pages.begin();
  }

  function crumb(folder, shown) {
    return el('a', {class: folder ? 'mono' : null, href: address(folder), onclick: (event) => {
      event.preventDefault();
      text.value = '';
      if (location.hash === address(folder)) list(folder); else { mustList = true; ctx.go(address(folder)); }
    }}, shown);
  }

  // Ask again for what is in sight, without moving it.
  function again() {
    return pages.refresh(Math.max(0, Math.floor(table.node.scrollTop / ROW) - 20), (row) => row.folder ?? row.key, (a, b) => (a === b ? 0 : a < b ? -1 : 1));
  }

  let timer = setTimeout(refresh, LIST_MS);
  async function refresh() {
    if (!document.hidden && !text.value) await again();
    if (timer) timer = setTimeout(refresh, LIST_MS);
  }

  function open(row) {
    if (row.folder !== undefined) { ctx.go(address(row.folder)); return; }
    // A key that ends in a slash has the address of its folder, so it is opened without one.
    if (row.key.endsWith('/')) show(row.key);
    else if (location.hash === address(row.key)) show(row.key);
    else ctx.go(address(row.key));
  }

  function show(key) {
    if (opened) opened.stop();
    opened = key ? keyView(ctx, key, {onGone: again, onChange: again, close: () => { ctx.go(address(prefix)); show(''); }}) : null;
    if (opened) replace(side, opened.node);
    else replace(side, parts.panel('No key is chosen', {}, el('p', {class: 'hint'}, 'Choose one from the tree to see its value.')));
    for (const link of table.node.querySelectorAll('a[data-key]')) link.classList.toggle('chosen', link.dataset.key === key);
  }

  function moved(path, isFirst = false) {
    const folder = path.slice(0, path.lastIndexOf('/') + 1), key = path.endsWith('/') ? '' : path;
    // What is searched for stays, and so does the tree while a key of it is opened.
    if (isFirst || (!key && path !== prefix) || mustList || (key && !key.startsWith(prefix))) { if (!key) text.value = ''; list(key ? folder : path); }
    show(key);
  }

  async function create() {
    const made = await parts.form({
      title: 'New key', action: 'Create', effect: 'It is made on all members, unless there is a key of that name: that stays as it is.',
      fields: [
        {name: 'key', label: 'Key', value: prefix, required: true, hint: 'Up to 4,096 bytes; folders end in /', check: (key) => (encoder.encode(key).length > 4096 ? 'it has more than 4,096 bytes' : '')},
        {name: 'value', label: 'Value', kind: 'area', rows: 8, check: (value) => (encoder.encode(value).length > VALUE_MAX ? 'it has more than 1 MiB' : '')},
        {name: 'flags', label: 'Flags', value: '0', hint: 'A number that programs may keep with a key', check: badFlags},
      ],
      async run({key, value, flags}) {
        const isMade = await api.send('PUT', `${keyPath(key)}?cas=0&flags=${flags}`, encoder.encode(value));
        if (isMade !== true) throw new Error(`The key ${key} is there already: open it to edit it. Nothing was changed.`);
      },
    });
    if (!made) return;
    parts.toast(`${made.key} is created`, 'ok');
    again();
    if (made.key.endsWith('/')) show(made.key); else ctx.go(address(made.key));
  }

  async function removeAll() {
    const done = await parts.form({
      title: `Delete every key that begins with ${prefix}?`, danger: true, action: 'Delete all',
      effect: 'They are deleted in one step, on all members, with the locks on them. This cannot be undone: export them first.',
      fields: [{name: 'typed', label: `Type ${prefix} to go on`, check: (typed) => (typed === prefix ? '' : `type exactly ${prefix}`)}],
      run: () => api.send('DELETE', ask(keyPath(prefix), {recurse: ''})),
    });
    if (!done) return;
    parts.toast(`All keys below ${prefix} are deleted`, 'ok');
    pages.begin();
  }

  moved(ctx.path, true);
  const unmount = () => { pages.stop(); clearTimeout(due); clearTimeout(timer); timer = 0; if (opened) opened.stop(); };
  unmount.moved = moved;
  unmount.isEdited = () => Boolean(opened && opened.isEdited());
  return unmount;
}

// -- one key ----------------------------------------------------------------------------------------

function keyView(ctx, key, {onGone, onChange, close}) {
  const {api, el, parts, format} = ctx;
  const mayWrite = ctx.may('key write');
  const end = new AbortController();
  const {signal} = end;
  let entry = null, form = '', edit = null, holder = null, isStale = false, isAll = false, seen = '', wasText = null;

  const body = el('div', {class: 'stack'});
  const node = parts.panel(key, {end: el('button', {type: 'button', class: 'quiet', 'aria-label': 'Close', onclick: close}, '✕'), kind: 'key'}, body);
  node.querySelector('h2').classList.add('mono');

  function show() {
    if (!entry) {
      replace(body, parts.empty('There is no such key', 'It was deleted, or it never was there.'));
      return;
    }
    if (edit) return;
    const asTextValue = asText(entry.bytes), json = asTextValue === null ? {error: 'it is not text'} : prettyJson(asTextValue);
    const forms = ['text', 'json', 'hex'];
    // What is no text any more is not shown as one, and the other way round.
    if (wasText !== (asTextValue !== null)) form = '';
    wasText = asTextValue !== null;
    if (!form) form = asTextValue === null ? 'hex' : json.text !== undefined && /^\s*[[{]/.test(asTextValue) ? 'json' : 'text';
    const choice = el('div', {class: 'group', role: 'group', 'aria-label': 'Shown as'}, forms.map((one) => el('button', {type: 'button',
      'aria-pressed': String(one === form), onclick: () => { form = one; show(); }}, {text: 'Text', json: 'JSON', hex: 'Hex'}[one])));
    replace(body, isStale ? parts.note('warn', el('p', null, 'No leader could be asked: this is this node\'s copy, which may be old.')) : null,
      facts(), el('div', {class: 'tools'}, choice, mayWrite ? el('div', {class: 'menu'},
        el('button', {type: 'button', class: 'primary', onclick: () => begin()}, 'Edit'),
        el('button', {type: 'button', onclick: () => parts.copy(asTextValue ?? asHex(entry.bytes))}, 'Copy'),
        el('button', {type: 'button', class: 'danger', onclick: remove}, 'Delete')) : null),
      value(asTextValue, json));
  }

  function value(asTextValue, json) {
    const {bytes} = entry;
    if (!bytes.length) return el('p', {class: 'hint'}, 'The value is empty.');
    if (form === 'hex') {
      const shown = isAll ? bytes : bytes.subarray(0, HEX_SHOWN);
      return [el('pre', {class: 'value hex', tabindex: '0'}, asHex(shown)), shown.length < bytes.length
        ? el('p', null, `${format.bytes(shown.length)} of ${format.bytes(bytes.length)} `, el('button', {type: 'button', onclick: () => { isAll = true; show(); }}, 'Show all')) : null];
    }
    if (asTextValue === null) return parts.note('info', el('p', null, 'The value is not text (no UTF-8): it is shown in hex.'));
    if (form === 'json') {
      return json.error ? [parts.note('warn', el('p', null, `This is no JSON: ${json.error}`)), el('pre', {class: 'value', tabindex: '0'}, asTextValue)]
        : el('pre', {class: 'value json', tabindex: '0'}, json.text);
    }
    return el('pre', {class: 'value', tabindex: '0'}, asTextValue);
  }

  function facts() {
    const fact = (term, hint, ...what) => el('div', {title: hint}, el('dt', null, term), el('dd', null, what));
    return el('dl', {class: 'facts'},
      fact('Revision', 'The write that last changed it', format.count(entry.revision)),
      fact('Created at', 'The write that made it', format.count(entry.created)),
      fact('Size', `${entry.bytes.length} bytes`, format.bytes(entry.bytes.length)),
      fact('Flags', 'A number that programs keep with a key', entry.flags),
      fact('Lock', 'Who holds it, and how often it was taken', entry.session ? [parts.badge('info', 'held'), ' ',
        holder && holder.ID === entry.session ? `by ${holder.Name || 'a session'} on ${holder.Node}, ` : 'by session ', el('code', null, entry.session)] : 'free',
      entry.lockIndex ? ` (taken ${format.plural(entry.lockIndex, 'time')})` : null));
  }

  // -- edit --

  function begin(mine = null) {
    const original = entry;
    const isText = keepsText(original.bytes);
    edit = {of: original, isText};
    const area = el('textarea', {rows: 14, spellcheck: 'false', 'aria-label': isText ? 'Value' : 'Value in hex', value: isText ? asText(original.bytes) : asHex(original.bytes, false)});
    if (mine !== null) area.value = mine;
    const flags = el('input', {type: 'text', inputmode: 'numeric', value: original.flags, 'aria-label': 'Flags'});
    const wrong = el('div', {class: 'note bad', role: 'alert', hidden: true});
    const conflict = el('div', {class: 'stack'}), buttons = el('div', {class: 'tools'});
    const save = el('button', {type: 'button', class: 'primary', onclick: () => write(area, flags, save, wrong, conflict)}, 'Save');
    replace(body, facts(),
      original.session ? parts.note('warn', el('p', null, 'Its lock is held: the program that holds it may rely on the value. A save does not ask for the lock.')) : null,
      isText ? null : parts.note('info', el('p', null, 'This value is edited in hex, so that every byte stays what it is: two digits a byte; spaces and line ends do not count.')),
      area, el('label', {class: 'field'}, el('span', {class: 'hint'}, 'Flags'), flags),
      el('p', {class: 'hint'}, `Save puts this in place of revision ${format.count(original.revision)} on all members, unless someone has changed that meanwhile.`), wrong, conflict, buttons);
    buttons.append(save, el('button', {type: 'button', onclick: () => { edit = null; look(); }}, 'Cancel'));
    area.setSelectionRange(0, 0);
    area.focus();
    edit.conflict = conflict;
    edit.buttons = buttons;
  }

  async function write(area, flags, save, wrong, conflict) {
    const {of, isText} = edit;
    const bytes = isText ? encoder.encode(area.value) : fromHex(area.value);
    const fault = bytes === null ? 'Hex is two digits 0-9 or a-f for each byte.' : bytes.length > VALUE_MAX ? 'A value has at most 1 MiB.' : badFlags(flags.value) && `Flags: ${badFlags(flags.value)}`;
    wrong.hidden = !fault;
    setText(wrong, fault || '');
    if (fault) return;
    save.disabled = true;
    try {
      const isDone = await api.send('PUT', `${keyPath(key)}?cas=${of.revision}&flags=${flags.value}`, bytes);
      if (isDone === true) {
        edit = null;
        parts.toast(`${key} is saved`, 'ok');
        await look();
        onChange();
        return;
      }
      const theirs = await read(api, key);
      // What was saved may be there already, where an earlier try took effect and its answer was lost.
      if (theirs && isSame(theirs.bytes, bytes) && theirs.flags === flags.value) { edit = null; entry = theirs; show(); return; }
      showConflict(conflict, theirs, bytes, area);
    } catch (error) {
      wrong.hidden = false;
      setText(wrong, error.text || error.message);
    } finally {
      save.disabled = false;
    }
  }

  function shown(bytes) { return asText(bytes) ?? asHex(bytes); }

  function showConflict(box, theirs, mine, area) {
    const what = theirs ? `${key} was changed by someone else while you edited it: revision ${format.count(edit.of.revision)} became ${format.count(theirs.revision)}.`
      : `${key} was changed by someone else while you edited it: it was deleted.`;
    replace(box, parts.note('warn', el('p', {role: 'alert'}, el('strong', null, what), ' Nothing was overwritten.')),
      el('div', {class: 'both'},
        el('section', null, el('h3', null, theirs ? `Theirs, revision ${format.count(theirs.revision)}` : 'Theirs'), theirs ? el('pre', {class: 'value', tabindex: '0'}, shown(theirs.bytes)) : el('p', {class: 'hint'}, 'The key is deleted.')),
        el('section', null, el('h3', null, 'Yours, not saved'), el('pre', {class: 'value', tabindex: '0'}, shown(mine)))),
      el('div', {class: 'tools'},
        el('button', {type: 'button', onclick: () => { edit = null; entry = theirs; form = ''; show(); if (!theirs) onGone(); }}, 'Take theirs'),
        el('button', {type: 'button', class: 'danger', onclick: () => {
          // The next save is on top of what is there now: it fails again if that changes.
          edit.of = theirs || {...edit.of, revision: 0};
          const now = area.value;
          if (theirs && edit.isText === keepsText(theirs.bytes)) { entry = theirs; begin(now); } else { edit.buttons.hidden = false; replace(box, el('p', {class: 'hint'}, 'Save puts yours in place of what is there.')); }
        }}, 'Go on with mine')));
    edit.buttons.hidden = true;
    box.scrollIntoView({block: 'nearest'});
  }

  async function remove() {
    const {revision} = entry;
    let theirs;
    const done = await parts.form({
      title: `Delete ${key}?`, danger: true, action: 'Delete',
      effect: [`The key, its value of ${format.bytes(entry.bytes.length)} and any lock on it are deleted on all members. This cannot be undone.`,
        'It is deleted only if nobody has changed it since you looked.'],
      async run() {
        const isDone = await api.send('DELETE', `${keyPath(key)}?cas=${revision}`);
        if (isDone === true) return;
        theirs = await read(api, key);
        throw new Error(`${key} was changed by someone else meanwhile, to revision ${theirs ? theirs.revision : 'none'}: it was not deleted. Go back and look at it.`);
      },
    });
    if (done) {
      parts.toast(`${key} is deleted`, 'ok');
      entry = null;
      show();
      onGone();
    } else if (theirs !== undefined) { entry = theirs; show(); }
  }

  // -- what is there --

  // Read it. `isExpected`: it was just written, and this node's copy may have yet to see that.
  async function look(isExpected = false) {
    try {
      seen = await mark(api, key, {signal});
      if (!seen && isExpected) { await pause(300, signal); seen = await mark(api, key, {signal}); }
      if (!seen) { entry = null; show(); return; }
      try {
        entry = await read(api, key, {}, {signal});
        isStale = false;
      } catch (error) {
        if (error.status !== 500 && error.status !== 503) throw error;
        entry = await read(api, key, {stale: ''}, {signal});
        isStale = true;
      }
      show();
      if (entry && entry.session) whoHolds(entry.session);
    } catch (error) {
      if (!signal.aborted) replace(body, parts.problem(error, () => look()));
    }
  }

  async function whoHolds(session) {
    try {
      [holder = null] = await api.get(ask(`/v1/session/info/${session}`, {stale: ''}), {signal});
      if (holder && !edit) show();
    } catch { /* Its ID is shown. */ }
  }

  // Others' changes are shown as they happen; while one edits, they are told.
  async function follow() {
    await look(true);
    // Where it is below the tree, it is brought into sight.
    if (!signal.aborted && !matchMedia('(min-width: 1000px)').matches) node.scrollIntoView({block: 'start'});
    for (;;) {
      await pause(LOOK_MS, signal);
      if (signal.aborted) return;
      if (document.hidden) continue;
      let now;
      try { now = await mark(api, key, {signal}); } catch { continue; }
      if (signal.aborted || now === seen) continue;
      if (!edit) { await look(); onChange(); continue; }
      const revision = Number(now.split(' ')[0]);
      seen = now;
      if (now && revision <= edit.of.revision) continue;
      if (edit.conflict.childElementCount) continue;
      replace(edit.conflict, parts.note('warn', el('p', null, now
        ? `${key} was changed by someone else, to revision ${format.count(revision)}. A save shows both values first.` : `${key} was deleted by someone else.`)));
    }
  }

  replace(body, el('p', {class: 'hint'}, 'Looking …'));
  follow().catch((error) => { if (!signal.aborted) replace(body, parts.problem(error)); });
  return {node, key, stop: () => end.abort(), isEdited: () => edit !== null};
}
