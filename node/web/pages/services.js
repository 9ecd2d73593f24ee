// Services: which there are and how they are; a service's instances, their checks, and what changed.

import {replace, setText} from '../dom.js';
import {ask, pager, pause, put, tall} from '../browse.js';

export const title = 'Services';

const STATUSES = ['passing', 'warning', 'critical'];
const KINDS = {passing: 'ok', warning: 'warn', critical: 'bad'};
const LIST_MS = 3000;    // How often what is in sight of a list is asked for again.
const WAIT = '5s';       // A read that waits holds one of the six connections of this browser: not for long.
const WHOLE_MAX = 200;   // A service of at most so many instances is read whole, and waited for.
const HISTORY_MAX = 200;
const TAGS_SHOWN = 5;

export function mount(root, ctx) {
  const list = serviceList(ctx);
  let open = null;

  function show(name) {
    if (open) { open.stop(); open = null; }
    if (name) {
      list.pause();
      open = service(ctx, name, () => show(name));
      replace(root, open.node);
    } else {
      replace(root, list.node);
      list.resume();
    }
  }

  show(ctx.path);
  const unmount = () => { list.pause(); if (open) open.stop(); };
  unmount.moved = show;
  return unmount;
}

function address(name) {
  return `#/services/${encodeURIComponent(name)}`;
}

// A row of buttons of which one is pressed: all statuses, or one.
function statusChoice({el}, onChoose) {
  let chosen = '';
  const buttons = ['', ...STATUSES].map((status) => el('button', {type: 'button',
    'aria-pressed': String(status === ''), onclick: () => {
      chosen = status;
      buttons.forEach((one, at) => one.setAttribute('aria-pressed', String(['', ...STATUSES][at] === chosen)));
      onChoose();
    }}, status || 'all'));
  return {node: el('div', {class: 'group', role: 'group', 'aria-label': 'Status'}, buttons), get: () => chosen};
}

function search({el}, label, placeholder, onChange) {
  let due = 0;
  const input = el('input', {type: 'search', placeholder, autocomplete: 'off', spellcheck: 'false',
    'aria-label': label, oninput: () => { clearTimeout(due); due = setTimeout(onChange, 200); }});
  return {node: el('label', {class: 'field grow'}, el('span', {class: 'hint'}, label), input), get: () => input.value.trim()};
}

function tags({el, format}, names, more = 0) {
  const count = names.length + more;
  // Where not all find place, how many there are stands before them: their end is cut off.
  return [count > TAGS_SHOWN ? el('span', {class: 'hint', title: names.join(', ')}, `${format.count(count)}: `) : null,
    names.slice(0, TAGS_SHOWN).map((tag) => el('span', {class: 'tag', title: tag}, tag))];
}

// A count of instances with a status: nothing where it is none.
function counted({el, parts, format}, n, status) {
  if (!n) return el('span', {class: 'muted'}, '0');
  return parts.badge(KINDS[status], [format.count(n), el('span', {class: 'aside'}, ` ${status}`)], `${n} ${status}`);
}

// -- all services -----------------------------------------------------------------------------------

function serviceList(ctx) {
  const {api, el, parts, format} = ctx;
  const total = el('span', null, '');
  const state = el('div', {class: 'list-state', role: 'status'});
  const text = search(ctx, 'Name has', 'web', () => load());
  const tag = search(ctx, 'Tag is', 'primary', () => load());
  const status = statusChoice(ctx, () => load());
  const table = parts.table({
    caption: 'Services', rowKey: (row) => row.name, height: tall(310), rowHeight: 40,
    onOpen: (row) => ctx.go(address(row.name)), onEnd: () => pages.more(),
    columns: [
      {title: 'Service', render: (row) => el('a', {href: address(row.name)}, row.name)},
      {title: 'Instances', class: 'num narrow', render: (row) => STATUSES.filter((one) => row[one]).reverse().map((one) => [' ', counted(ctx, row[one], one)])},
      {title: 'Critical', class: 'num wide', render: (row) => counted(ctx, row.critical, 'critical')},
      {title: 'Warning', class: 'num wide', render: (row) => counted(ctx, row.warning, 'warning')},
      {title: 'Passing', class: 'num wide', render: (row) => counted(ctx, row.passing, 'passing')},
      {title: 'Instances', class: 'num wide', render: (row) => format.count(row.instances)},
      {title: 'Tags', class: 'wide', render: (row) => tags(ctx, row.tags, row.more_tags)},
    ],
  });
  const pages = pager({
    page: (after, signal) => api.get(ask('/v1/ui/services', {...query(), after, limit: 200}), {signal}),
    entries: (page) => { setText(total, format.plural(page.total, 'service')); return page.services; },
    set: (rows) => table.set(rows),
    say: (what) => replace(state, told(what)),
  });
  const query = () => ({text: text.get(), status: status.get(), tag: tag.get()});

  function told({isBusy, error, isEmpty}) {
    if (error) return parts.problem(error, () => pages.more());
    if (isBusy) return el('p', {class: 'hint'}, 'Looking …');
    if (!isEmpty) return null;
    const {text: t, status: s, tag: g} = query();
    if (t || s || g) return parts.empty('No service is like that', 'Change what is looked for above.');
    return parts.empty('No service is registered', 'Programs and files do that: hstore register --help.');
  }

  function load() { pages.begin(); }

  let timer = 0;
  async function refresh() {
    const first = Math.max(0, Math.floor(table.node.scrollTop / 40) - 20);
    if (!document.hidden) await pages.refresh(first, (row) => row.name, compare);
    timer = setTimeout(refresh, LIST_MS);
  }

  const node = el('div', {class: 'stack'}, el('h1', {class: 'aside'}, title),
    parts.panel('Services', {end: total}, el('div', {class: 'tools'}, text.node, tag.node, status.node),
      table.node, state));
  return {
    node,
    resume() { clearTimeout(timer); load(); timer = setTimeout(refresh, LIST_MS); },
    pause() { clearTimeout(timer); pages.stop(); },
  };
}

// The order of names on the node: by their UTF-8, in which A-Z are a-z.
function compare(one, other) {
  const a = fold(one), b = fold(other);
  return a === b ? 0 : a < b ? -1 : 1;
}

function fold(name) { return name.replace(/[A-Z]/g, (letter) => letter.toLowerCase()); }

// -- one service ------------------------------------------------------------------------------------

function service(ctx, name, again) {
  const {api, el, parts, format} = ctx;
  const end = new AbortController();
  const {signal} = end;
  const known = new Map();   // The checks of each instance, as they were seen last.
  const history = [];
  let selected = '', shownRow = null, rows = [], isWhole = false, isGone = false;

  const counts = el('span', {class: 'menu'});
  const state = el('div', {class: 'list-state', role: 'status'});
  const text = search(ctx, 'ID or node has', 'n1', () => filter());
  const status = statusChoice(ctx, () => filter());
  const table = parts.table({
    caption: `Instances of ${name}`, rowKey: key, height: tall(520), rowHeight: 40, onOpen: choose,
    onEnd: () => { if (!isWhole) pages.more(); },
    columns: [
      {title: 'Instance', render: (row) => el('span', {class: key(row) === selected ? 'chosen' : ''}, row.id)},
      {title: 'Status', render: (row) => [parts.health(row.status),
        row.maintenance ? ' ' : null, row.maintenance ? parts.health('maintenance', `the ${row.maintenance} is in maintenance`) : null]},
      {title: 'Node', render: (row) => row.node},
      {title: 'Address', class: 'wide', render: (row) => el('span', {class: 'mono'}, where(row))},
      {title: 'Tags', class: 'wide', render: (row) => tags(ctx, row.tags)},
    ],
  });
  const details = el('div', {class: 'stack', id: 'instance'});
  const changes = el('ol', {class: 'history', tabindex: '0', 'aria-label': 'Changes of the checks'});
  const node = el('div', {class: 'stack'},
    el('p', {class: 'crumbs'}, el('a', {href: '#/services'}, 'All services'), ' / ', el('span', null, name)),
    el('h1', null, name),
    parts.panel('Instances', {end: counts}, el('div', {class: 'tools'}, text.node, status.node), table.node, state),
    details,
    parts.panel('Changes seen while this page is open', {}, changes));
  const pages = pager({
    page: (after) => api.get(ask('/v1/ui/instances', {service: name, text: text.get(), status: status.get(), after, limit: 200}), {signal}),
    entries: (page) => page.instances, set: take, say: told,
  });

  function told({isBusy, error, isEmpty}) {
    if (error) replace(state, parts.problem(error, again));
    else if (isBusy && !rows.length) replace(state, el('p', {class: 'hint'}, 'Looking …'));
    else if (isEmpty && (text.get() || status.get())) replace(state, parts.empty('No instance is like that', 'Change what is looked for above.'));
    else if (isEmpty) replace(state, parts.empty('This service has no instance', 'The last one was deregistered, or it never had one.', el('a', {href: '#/services'}, 'All services')));
    else replace(state);
  }

  function key(row) { return `${row.node}\n${row.id}`; }

  function where(row) { return row.port ? `${row.address.includes(':') ? `[${row.address}]` : row.address}:${row.port}` : row.address; }

  function take(next) {
    rows = next;
    const wanted = isWhole ? rows.filter(fits) : rows;
    table.set(wanted);
    if (isWhole) told({isEmpty: !wanted.length});
    const row = rows.find((one) => key(one) === selected);
    if (row && (!shownRow || JSON.stringify(row) !== JSON.stringify(shownRow))) showRow(row);
    if (!row && wanted.length && !(selected && !isWhole)) choose(worst(wanted));
    else if (!row && selected && isWhole) { selected = ''; shownRow = null; replace(details); }
    const of = (one) => rows.filter((row) => row.status === one).length;
    replace(counts, isWhole ? STATUSES.filter(of).map((one) => parts.badge(
      KINDS[one], `${format.count(of(one))} ${one}`)) : null);
  }

  function worst(some) {
    const [one] = ['critical', 'warning', 'passing'].flatMap((status) => some.find((row) => row.status === status) || []);
    return one;
  }

  function fits(row) {
    const wanted = text.get().toLowerCase(), one = status.get();
    return (!one || row.status === one) && (!wanted || row.id.toLowerCase().includes(wanted) || row.node.toLowerCase().includes(wanted));
  }

  function filter() { if (isWhole) take(rows); else { selected = ''; pages.begin(); } }

  function choose(row) {
    selected = key(row);
    // So that the mark of the chosen row is drawn anew.
    rows = rows.map((one) => ({...one}));
    table.set(isWhole ? rows.filter(fits) : rows);
    showRow(row);
    if (!isWhole) lookAtOne(row);
  }

  // -- the chosen instance --

  function showRow(row) {
    shownRow = row;
    const checks = known.get(key(row)) || [];
    const buttons = ctx.may('service write') && name !== 'consul' ? [
      el('button', {type: 'button', onclick: () => maintain(row)}, row.maintenance === 'service' ? 'End maintenance' : 'Maintenance'),
      el('button', {type: 'button', class: 'danger', onclick: () => deregister(row)}, 'Deregister')] : null;
    replace(details, parts.panel(`${row.id} on ${row.node}`, {end: buttons},
      el('dl', {class: 'facts'},
        fact('Status', [parts.health(row.status), row.maintenance ? [' ', parts.health('maintenance'), ` of the ${row.maintenance}`] : null]),
        fact('Address', el('span', {class: 'mono'}, where(row) || '–')),
        fact('Node', row.node),
        fact('Tags', row.tags.length ? row.tags.map((tag) => el('span', {class: 'tag'}, tag)) : '–')),
      checks.length ? el('ul', {class: 'checks'}, checks.map(check))
        : el('p', {class: 'hint'}, 'It has no checks of its own and its node has none: it counts as passing.')));
  }

  function fact(term, ...what) { return el('div', null, el('dt', null, term), el('dd', null, what)); }

  function check(one) {
    return el('li', null,
      el('div', {class: 'check-head'}, parts.health(one.Status), el('strong', null, one.Name || one.CheckID),
        el('span', {class: 'hint'}, [one.ServiceID ? 'of the service' : 'of the node', one.Type, one.CheckID].filter(Boolean).join(' · '))),
      one.Notes ? el('p', {class: 'hint'}, one.Notes) : null,
      one.Output ? el('pre', {class: 'output', tabindex: '0'}, one.Output) : one.Notes ? null : el('p', {class: 'hint'}, 'No output.'));
  }

  async function maintain(row) {
    const isOn = row.maintenance === 'service';
    const path = ask(`/v1/agent/service/maintenance/${encodeURIComponent(row.id)}`, {node: row.node});
    const done = await parts.form({
      title: isOn ? `End the maintenance of ${row.id}?` : `Put ${row.id} into maintenance?`,
      effect: isOn ? `DNS and health queries name ${row.id} on ${row.node} again, as soon as its checks pass.`
        : `DNS and health queries stop naming ${row.id} on ${row.node}: its clients go to other instances of ${name}. It stays registered, and its process is not touched.`,
      action: isOn ? 'End maintenance' : 'Put into maintenance',
      fields: isOn ? [] : [{name: 'reason', label: 'Reason', hint: 'Others see it in the notes of a check.'}],
      run: ({reason}) => put(api, `${path}&enable=${!isOn}${reason ? `&reason=${encodeURIComponent(reason)}` : ''}`),
    });
    if (done) parts.toast(isOn ? `${row.id} is out of maintenance` : `${row.id} is in maintenance`, 'ok');
    if (done && !isWhole) { lookAtOne(row); refresh(); }
  }

  async function deregister(row) {
    const path = ask(`/v1/agent/service/deregister/${encodeURIComponent(row.id)}`, {node: row.node});
    const done = await parts.form({
      title: `Deregister ${row.id}?`, danger: true, action: 'Deregister',
      effect: [`${row.id} on ${row.node} and its checks are removed from the catalog of the whole cluster: DNS and HTTP no longer find it.`,
        'Its process goes on. If that, or a file, registers it again, it comes back.'],
      run: () => put(api, path),
    });
    if (!done) return;
    parts.toast(`${row.id} is deregistered`, 'ok');
    if (!isWhole) { selected = ''; shownRow = null; replace(details); pages.begin(); }
  }

  // -- what changes --

  function seen(row, checks, isFirst) {
    const before = known.get(key(row));
    known.set(key(row), checks);
    if (isFirst) return;
    if (!before) { tell(row, null, 'was registered', row.status); return; }
    for (const one of checks) {
      const was = before.find((other) => other.CheckID === one.CheckID);
      if (!was) tell(row, one, 'has a new check:', one.Status);
      else if (was.Status !== one.Status) tell(row, one, `${was.Status} →`, one.Status);
      else if (was.Output !== one.Output) tell(row, one, 'another output', one.Status);
    }
    for (const was of before) {
      if (!checks.some((one) => one.CheckID === was.CheckID)) tell(row, was, 'the check is gone, it was', was.Status);
    }
  }

  function tell(row, one, what, now) {
    history.unshift({at: Date.now(), row, one, what, now});
    history.length = Math.min(history.length, HISTORY_MAX);
    showHistory();
  }

  function showHistory() {
    replace(changes, history.length ? history.map(({at, row, one, what, now}) => el('li', null,
      el('time', null, format.time(at)), el('strong', null, row.id), el('span', {class: 'hint'}, ` on ${row.node}`),
      one ? el('span', null, one.Name || one.CheckID) : null, el('span', {class: 'muted'}, what), now ? parts.health(now) : null,
      one && one.Output ? el('code', null, one.Output.slice(0, 200)) : null)) : el('li', {class: 'hint'}, 'Nothing has changed yet.'));
  }

  function rowOf(entry) {
    const {Node, Service, Checks} = entry;
    const worst = ['critical', 'warning'].find((one) => Checks.some((check) => check.Status === one)) || 'passing';
    const is = (id) => Checks.some((check) => check.CheckID === id);
    return {
      node: Node.Node, id: Service.ID, address: Service.Address || Node.Address, port: Service.Port, tags: Service.Tags || [],
      status: worst, checks: Checks.length,
      maintenance: is('_node_maintenance') ? 'node' : is(`_service_maintenance:${Service.ID}`) ? 'service' : '',
    };
  }

  function takeWhole(entries, isFirst) {
    const next = entries.map((entry) => [rowOf(entry), entry.Checks]);
    const there = new Set(next.map(([row]) => key(row)));
    for (const [row, checks] of next) seen(row, checks, isFirst);
    for (const row of rows) {
      if (!isFirst && !there.has(key(row))) { known.delete(key(row)); tell(row, null, 'was deregistered', ''); }
    }
    // So that the checks of the chosen one are drawn anew, where only an output has changed.
    shownRow = null;
    take(next.map(([row]) => row));
  }

  async function lookAtOne(row) {
    try {
      const {instance, checks} = await api.get(ask('/v1/ui/instance', {node: row.node, id: row.id}), {signal});
      if (selected !== key(row)) return;
      if (!instance) { replace(details, parts.note('info', el('p', null, `${row.id} is not registered on ${row.node} any more.`))); return; }
      seen(instance, checks, !known.has(key(row)));
      showRow(instance);
    } catch (error) {
      if (!signal.aborted && selected === key(row)) replace(details, parts.problem(error));
    }
  }

  function refresh() {
    return pages.refresh(Math.max(0, Math.floor(table.node.scrollTop / 40) - 20), (row) => row.at, (a, b) => (a === b ? 0 : a < b ? -1 : 1));
  }

  async function follow() {
    const first = await api.get(ask('/v1/ui/instances', {service: name, limit: WHOLE_MAX}), {signal});
    isWhole = first.next === null;
    if (!isWhole) pages.begin();
    let index = 0;
    while (!signal.aborted) {
      try {
        if (isWhole) {
          const path = ask(`/v1/health/service/${encodeURIComponent(name)}`, {stale: '', index: index || '', wait: index ? WAIT : ''});
          const answer = await api.get(path, {signal, raw: true, timeoutMs: 20000});
          const entries = await answer.json(), now = Number(answer.headers.get('x-consul-index'));
          if (now !== index) takeWhole(entries, !index);
          index = now;
          if (isGone) { isGone = false; told({isEmpty: !rows.length}); }
        } else {
          await pause(LIST_MS, signal);
          if (document.hidden) continue;
          await refresh();
          if (shownRow) await lookAtOne(shownRow);
        }
      } catch (error) {
        if (signal.aborted) return;
        isGone = true;
        told({error});
        await pause(LIST_MS, signal);
      }
    }
  }

  showHistory();
  follow().catch((error) => { if (!signal.aborted) told({error}); });
  return {node, stop: () => { end.abort(); pages.stop(); }};
}
