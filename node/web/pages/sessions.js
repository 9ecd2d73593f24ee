// Sessions: who holds what, for how much longer; a session can be destroyed.

import {el, replace} from '../dom.js';
import * as format from '../format.js';
import * as parts from '../parts.js';

export const title = 'Sessions';

const AGAIN_MS = 2000;
const SHOWN_KEYS = 5;

export function mount(root, {api, live, may}) {
  const state = el('div');
  const filter = el('input', {id: 'session-filter', type: 'search', autocomplete: 'off', spellcheck: 'false', oninput: () => draw()});
  const total = el('span');
  const table = parts.table({
    caption: 'Sessions', rowKey: (one) => one.id, sortable: true,
    columns: [
      {title: 'Session', sort: (one) => one.name, render: (one) => [el('strong', null, one.name || '(no name)'), el('div', {class: 'hint mono'}, one.id)]},
      {title: 'Holder', sort: (one) => one.node, render: (one) => one.node},
      {title: 'TTL left', class: 'num', sort: (one) => one.ttl_left_s ?? Infinity, render: left},
      {title: 'Keys', sort: (one) => one.held, render: keys},
      {title: 'When it ends', render: (one) => (one.behavior === 'delete' ? 'its keys are deleted' : 'its locks are released')},
      {title: 'Action', class: 'num', render: (one) => (may('session write') ? el('button',
        {type: 'button', class: 'danger', 'aria-label': `Destroy ${one.name || one.id}`, onclick: () => destroy(one)}, 'Destroy') : null)},
    ],
  });
  table.node.classList.add('cards');
  const list = el('div', {hidden: true, class: 'stack'}, el('div', {class: 'tools'},
    el('div', {class: 'field grow'}, el('label', {for: 'session-filter'}, 'Show those with this text'), filter)), table.node);
  root.append(el('h1', {class: 'aside'}, title), parts.panel('Sessions', {end: total}, state, list));
  let sessions = [], due = 0, isOver = false;

  function draw() {
    const text = filter.value.trim().toLowerCase();
    const rows = text ? sessions.filter((one) => [one.name, one.id, one.node, ...one.keys].some((part) => part.toLowerCase().includes(text))) : sessions;
    table.set(rows);
    list.hidden = !sessions.length;
    replace(total, rows.length === sessions.length ? format.plural(rows.length, 'session') : `${format.count(rows.length)} of ${format.plural(sessions.length, 'session')}`);
    if (sessions.length) replace(state);
    else replace(state, parts.empty('No sessions', 'A session holds locks on keys for a program. It is made by hstore lock, by PUT /v1/session/create, or by a client of Consul such as Patroni.'));
  }

  async function load() {
    clearTimeout(due);
    if (isOver) return;
    try {
      const found = await api.get('/v1/ui/sessions');
      sessions = found.sessions;
      draw();
      if (found.more) replace(state, parts.note('info', el('p', null, `The first ${format.plural(sessions.length, 'session')} are shown.`)));
    } catch (error) {
      if (!live.lost) replace(state, parts.problem(error, load));
    }
    if (!isOver) due = setTimeout(load, AGAIN_MS);
  }

  function destroy(one) {
    return parts.form({
      title: `Destroy ${one.name || one.id}?`,
      effect: [
        one.held ? `It holds ${format.plural(one.held, 'key')}: ${one.keys.slice(0, SHOWN_KEYS).join(', ')}${one.keys.length > SHOWN_KEYS ? ', …' : ''}. ${one.behavior === 'delete' ? 'They are deleted.' : 'Their locks are released, and another program may take them after the lock delay.'}` : 'It holds no keys.',
        'The program that made it loses what it holds without being asked, and may go on as if it had it until it looks.',
      ],
      action: 'Destroy', danger: true,
      run: async () => {
        await api.send('PUT', `/v1/session/destroy/${encodeURIComponent(one.id)}`);
        parts.toast(`${one.name || one.id} was destroyed`, 'ok');
        load();
      },
    });
  }

  replace(state, el('p', {class: 'muted'}, 'Loading …'));
  load();
  const off = live.on('back', load);
  return () => { isOver = true; clearTimeout(due); off(); };
}

function left(one) {
  if (one.ttl_s === null) return el('span', {class: 'muted'}, 'no TTL');
  if (one.ttl_left_s === null) {
    return ['–', el('div', {class: 'hint'}, `of ${format.duration(one.ttl_s)}; the leader has not said`)];
  }
  if (one.ttl_left_s < 0) return [parts.badge('warn', 'over'), el('div', {class: 'hint'}, `ends in ${format.duration(one.ttl_s + one.ttl_left_s)}`)];
  return [format.duration(one.ttl_left_s), el('div', {class: 'hint'}, `of ${format.duration(one.ttl_s)}`)];
}

function keys(one) {
  if (!one.keys.length) return el('span', {class: 'muted'}, 'none');
  return [one.keys.slice(0, SHOWN_KEYS).map((key) => el('a', {class: 'tag', href: `#/keys/${encodeURIComponent(key)}`}, key)),
    one.held > SHOWN_KEYS ? ` and ${format.count(one.held - SHOWN_KEYS)} more` : null];
}
