// Sessions: who holds what, for how much longer; a session can be destroyed.

import {el, replace, setText} from '../dom.js';
import {ask, pager, tall} from '../browse.js';
import * as format from '../format.js';
import * as parts from '../parts.js';

export const title = 'Sessions';

const AGAIN_MS = 2000;
const SHOWN_KEYS = 5;
const ROW = 56;

export function mount(root, {api, live, may}) {
  const state = el('div', {class: 'list-state', role: 'status'});
  const total = el('span');
  let due = 0, typed = 0, isOver = false;
  const filter = el('input', {type: 'search', autocomplete: 'off', spellcheck: 'false',
    oninput: () => { clearTimeout(typed); typed = setTimeout(() => pages.begin(), 250); }});
  const table = parts.table({
    caption: 'Sessions', rowKey: (one) => one.id, height: tall(280), rowHeight: ROW, onEnd: () => pages.more(),
    columns: [
      {title: 'Session', render: (one) => [el('strong', null, one.name || '(no name)'),
        el('div', {class: 'hint mono wide'}, one.id), el('div', {class: 'hint narrow'}, one.keys.length ? keys(one) : one.node)]},
      {title: 'Holder', class: 'wide', render: (one) => one.node},
      {title: 'TTL left', class: 'num', render: left},
      {title: 'Keys', class: 'wide', render: keys},
      {title: 'When it ends', class: 'wide', render: (one) => (one.behavior === 'delete' ? 'its keys are deleted' : 'its locks are released')},
      {title: 'Action', class: 'num', render: (one) => (may('session write') ? el('button',
        {type: 'button', class: 'danger', 'aria-label': `Destroy ${one.name || one.id}`, onclick: () => destroy(one)}, 'Destroy') : null)},
    ],
  });
  const pages = pager({
    page: (after, signal) => api.get(ask('/v1/ui/sessions', {text: filter.value.trim(), after, limit: 200}), {signal}),
    entries: (page) => { setText(total, format.plural(page.total, 'session')); return page.sessions; },
    set: (rows) => table.set(rows), say: told,
  });
  const list = el('div', {class: 'stack'}, el('div', {class: 'tools'},
    el('label', {class: 'field grow'}, el('span', {class: 'hint'}, 'Name, id, holder or key has'), filter)), table.node);
  root.append(el('h1', {class: 'aside'}, title), parts.panel('Sessions', {end: total}, list, state));

  function told({isBusy, error, isEmpty, rows}) {
    list.hidden = !rows.length && !filter.value;
    table.node.hidden = !rows.length;
    if (error) { if (!live.lost) replace(state, parts.problem(error, () => pages.more())); }
    else if (isBusy) replace(state, el('p', {class: 'hint'}, 'Looking …'));
    else if (isEmpty && filter.value) replace(state, parts.empty('No session is like that', 'Change what is looked for above.'));
    else if (isEmpty) replace(state, parts.empty('No sessions', 'A session holds locks on keys for a program. It is made by hstore lock, by PUT /v1/session/create, or by a client of Consul such as Patroni.'));
    else replace(state);
  }

  // What is in sight is asked for again, from a little above it on.
  async function load() {
    clearTimeout(due);
    if (!document.hidden) {
      await pages.refresh(Math.max(0, Math.floor(table.node.scrollTop / ROW) - 20), (one) => one.at, (a, b) => (a < b ? -1 : a > b ? 1 : 0));
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

  pages.begin();
  due = setTimeout(load, AGAIN_MS);
  const off = live.on('back', () => pages.more());
  return () => { isOver = true; clearTimeout(due); clearTimeout(typed); pages.stop(); off(); };
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
