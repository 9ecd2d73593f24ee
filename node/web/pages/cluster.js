// Cluster: is it well, who leads, how many may fail; the members; what happened, in which order.

import {el, replace} from '../dom.js';
import * as format from '../format.js';
import * as parts from '../parts.js';
import {LAG_ENTRIES, alarmsOf, isLive, isShort, lagMeter} from './alarms.js';
import * as actions from './members.js';

export const title = 'Cluster';

const POINTS = 60;
const TIMELINE_SHOWN = 200;
const TIMELINE_MS = 30000;

export function mount(root, context) {
  const {api, live, may, node} = context;
  const votes = el('ul', {class: 'votes', 'aria-label': 'Voters'});
  const verdict = el('section', {class: 'verdict', 'aria-live': 'polite'});
  const figures = el('dl', {class: 'figures'});
  const alarms = el('div', {class: 'alarms', 'aria-label': 'Alarms', role: 'region', hidden: true});
  const happened = el('ol', {class: 'timeline', tabindex: '0', 'aria-label': 'What happened'});
  const settings = el('div');
  const nobody = el('p', {class: 'muted', hidden: true}, 'None is known here yet. A node that joins learns them from the leader, which takes a moment.');
  const history = new Map();
  const measure = lagMeter();
  let leaderSince = null, seen = '', cluster = null, timelineDue = 0, behind = [], health_interval_ms = 500;

  const members = parts.table({
    caption: 'Members', rowKey: (one) => one.id,
    columns: columns({history, isOwn: (one) => one.id === node.id,
      open: (one) => actions.open(one, cluster, context)}),
  });
  members.node.classList.add('cards');

  root.append(
    el('h1', {class: 'aside'}, title),
    alarms,
    el('section', {class: 'panel summary'}, el('div', null, verdict, votes), figures),
    parts.panel('Members', {id: 'members'}, members.node, nobody),
    el('div', {class: 'two'},
      parts.panel('What happened', {id: 'timeline', end: 'newest first'}, happened),
      parts.panel('Settings', {id: 'settings', end: 'the same on every node, but for log_level'}, settings)));

  function show(next) {
    cluster = next;
    for (const one of next.nodes) {
      const points = history.get(one.id) || [];
      points.push(isLive(one) ? one.writes_per_s : null);
      if (points.length > POINTS) points.shift();
      history.set(one.id, points);
    }
    behind = measure(next, health_interval_ms);
    const found = alarmsOf(next, behind);
    const {kind, head, text} = judge(next, found);
    say(kind, head, text);
    showVotes(votes, next);
    showFigures(figures, next, leaderSince, behind);
    showAlarms(alarms, found);
    nobody.hidden = next.nodes.length > 0;
    members.node.hidden = !next.nodes.length;
    members.set(next.nodes.map((one, at) => ({...one, lag: behind[at]})));
    const structure = JSON.stringify([next.leader, next.term, next.nodes.map((one) => [one.name, one.health, one.voter])]);
    if (structure !== seen) {
      seen = structure;
      clearTimeout(timelineDue);
      timelineDue = setTimeout(() => { loadTimeline(); loadSettings(); }, 200);
    }
  }

  // Only when it differs: the section is read out.
  function say(kind, head, text) {
    if (verdict.dataset.said === head + text) return;
    verdict.dataset.said = head + text;
    replace(verdict, el('p', {class: 'head'}, parts.badge(kind, head)), el('p', null, text));
  }

  // What was known is not what is.
  function showLost({since}) {
    if (!cluster) return;
    say('off', 'Not known', `This page's node is lost. At ${format.time(since)} it said: ${judge(cluster, alarmsOf(cluster, behind)).head}.`);
  }

  async function loadTimeline() {
    clearTimeout(timelineDue);
    timelineDue = setTimeout(loadTimeline, TIMELINE_MS);
    try {
      const {events} = await api.get('/v1/timeline');
      const newest = [...events].sort((one, other) => other.at_ms - one.at_ms);
      const led = newest.find((one) => one.kind === 'leader');
      leaderSince = led && cluster && led.member === cluster.leader ? led.at_ms : null;
      if (cluster) showFigures(figures, cluster, leaderSince, behind);
      showTimeline(happened, newest.slice(0, TIMELINE_SHOWN));
    } catch (error) {
      if (error.status === 404) {
        replace(happened, el('li', {class: 'muted'}, 'This node keeps no timeline: its version is older than the dashboard.'));
      } else if (!live.lost) replace(happened, el('li', null, parts.problem(error, loadTimeline)));
    }
  }

  async function loadSettings() {
    try {
      const found = await api.get('/v1/config?stale');
      health_interval_ms = format.fromDuration(found.health_interval?.value) ?? health_interval_ms;
      actions.showSettings(settings, found, context, loadSettings);
    } catch (error) {
      if (!live.lost) replace(settings, parts.problem(error, loadSettings));
    }
  }

  if (!live.cluster) replace(verdict, el('p', {class: 'muted'}, 'Waiting for this node …'));
  const offs = [live.on('cluster', show), live.on('lost', showLost),
    live.on('denied', ({text}) => say('off', 'No access', text)), live.on('back', () => { seen = ''; })];
  if (!may('operator write')) {
    settings.before(el('p', {class: 'hint'}, 'Changes are made from the node\'s own machine.'));
  }
  return () => {
    offs.forEach((off) => off());
    clearTimeout(timelineDue);
  };
}

// -- the first second ------------------------------------------------------------------------------

// What to say first. kind: ok, warn, bad, info.
export function judge(cluster, alarms = []) {
  const voters = cluster.nodes.filter((one) => one.voter);
  const up = voters.filter(isLive).length;
  const down = cluster.nodes.filter((one) => !isLive(one) && one.health !== 'joining');
  const names = (list) => list.map((one) => one.name).join(', ');
  if (cluster.waiting_for) {
    return {kind: 'info', head: 'Waiting for members',
      text: `${voters.length} of ${format.plural(cluster.waiting_for, 'voter')} are there; clients are served when all are. Start the others, or join them with hstore join.`};
  }
  if (!cluster.nodes.length) {
    return {kind: 'info', head: 'Empty cluster', text: 'This node has no members to show yet: it is learning who they are.'};
  }
  if (!cluster.leader) {
    const missing = cluster.quorum - up;
    return {kind: 'bad', head: 'No leader',
      text: missing > 0
        ? `Nothing can be written: ${format.plural(missing, 'more voter')} must come back, of ${names(down.filter((one) => one.voter))}. Start them again; what this page shows may be old.`
        : 'Nothing can be written until one is elected, which takes a moment. If it lasts, the voters do not reach each other: look at their logs.'};
  }
  if (voters.length === 1) {
    return {kind: 'info', head: 'Works, alone',
      text: `${cluster.leader} is the only voter: no other machine has the data. Two more members let one fail: hstore join -h ${cluster.nodes[0].address}`};
  }
  if (cluster.failure_tolerance === 0) {
    return {kind: 'bad', head: 'At its limit',
      text: down.length ? `It works, but ${names(down)} ${down.length === 1 ? 'is' : 'are'} missing: if one more voter fails, nothing can be written.`
        : 'It works, but if one voter fails, nothing can be written: an odd number of voters from three on lets some fail.'};
  }
  if (down.length) {
    return {kind: 'warn', head: 'Works, weakened',
      text: `${names(down)} ${down.length === 1 ? 'is' : 'are'} not there. ${more(cluster.failure_tolerance)}`};
  }
  const doubtful = cluster.nodes.filter((one) => one.health !== 'alive' && one.health !== 'joining');
  if (doubtful.length) {
    return {kind: 'warn', head: 'Well, with doubts', text: `${names(doubtful)}: ${doubtful[0].reason || doubtful[0].health}. ${more(cluster.failure_tolerance)}`};
  }
  if (alarms.length) {
    const isBad = alarms.some(([kind]) => kind === 'bad');
    return {kind: isBad ? 'bad' : 'warn', head: isBad ? 'Needs a hand' : 'Well, with doubts',
      text: `${cluster.leader} leads ${format.plural(cluster.nodes.length, 'member')}. ${alarms.length === 1 ? `${alarms[0][1]}.` : `${alarms.length} alarms hold: see above.`} ${more(cluster.failure_tolerance)}`};
  }
  return {kind: 'ok', head: 'All is well', text: `${cluster.leader} leads ${format.plural(cluster.nodes.length, 'member')}. ${more(cluster.failure_tolerance)}`};
}

function more(tolerance) {
  return `${format.plural(tolerance, 'more voter')} may fail before writes stop.`;
}

function showVotes(box, cluster) {
  replace(box, cluster.nodes.map((one) => {
    const kind = one.health === 'alive' ? 'ok' : isLive(one) ? 'warn' : one.health === 'joining' ? 'info' : 'bad';
    const role = one.name === cluster.leader ? 'leads' : one.voter ? 'votes' : 'learns';
    return el('li', {class: `vote ${kind} ${role === 'leads' ? 'is-leader' : ''}`},
      el('span', {class: 'sign', 'aria-hidden': 'true'}, {ok: '●', warn: '▲', info: '◆', bad: '✕'}[kind]),
      el('strong', null, one.name), el('span', {class: 'role'}, role === 'leads' ? '★ leads' : role),
      el('span', {class: 'state'}, one.health));
  }));
}

function showFigures(box, cluster, since, behind) {
  const voters = cluster.nodes.filter((one) => one.voter);
  const up = voters.filter(isLive).length;
  const leads = since ? `for ${format.duration((Date.now() - since) / 1000)}, since ${format.time(since)}` : null;
  const known = behind.filter((n) => n !== null);
  const lag = known.length > 1 ? Math.max(...known) : null;
  const next = [
    parts.figure('Leader', cluster.leader || 'none', {hint: leads, kind: cluster.leader ? '' : 'bad'}),
    parts.figure('May fail', cluster.leader ? String(cluster.failure_tolerance) : 'none', {unit: !cluster.leader ? '' : cluster.failure_tolerance === 1 ? 'voter' : 'voters',
      hint: cluster.leader ? 'before writes stop' : 'writes have stopped', kind: cluster.leader && cluster.failure_tolerance > 0 ? '' : voters.length > 1 ? 'bad' : 'warn'}),
    parts.figure('Voters live', `${up} / ${voters.length}`, {hint: `quorum is ${cluster.quorum}`, kind: up === voters.length ? '' : 'warn'}),
    parts.figure('Term', format.count(cluster.term), {hint: 'rises with each election'}),
    parts.figure('Largest lag', format.count(lag), {unit: lag === null ? null : lag === 1 ? 'entry' : 'entries', hint: lag === null ? 'no other member answers' : null, kind: lag > LAG_ENTRIES ? 'warn' : ''}),
    parts.figure('Zone', cluster.zone, {hint: `cluster ${cluster.cluster_id}`}),
  ];
  next.forEach((one, at) => {
    const old = box.children[at];
    if (!old) box.append(one);
    else if (!old.isEqualNode(one)) old.replaceWith(one);
  });
}

function showAlarms(box, found) {
  box.hidden = !found.length;
  const said = JSON.stringify(found.map(([kind, head]) => [kind, head]));
  if (box.dataset.said === said && !found.some(([kind]) => kind === 'warn')) return;
  box.dataset.said = said;
  replace(box, found.map(([kind, head, text]) => parts.note(kind, el('p', null, el('strong', null, parts.badge(kind, head)), ' ', text))));
}

// -- the members -----------------------------------------------------------------------------------

function columns({history, isOwn, open}) {
  return [
    {title: 'Member', render: (one) => el('span', {class: 'who'}, el('strong', null, one.name), isOwn(one) ? el('span', {class: 'tag'}, 'this node') : null)},
    {title: 'Role', render: (one) => (one.type === 'leader' ? parts.badge('info', 'leader') : one.type)},
    {title: 'Health', render: (one) => [parts.health(one.health, one.reason), one.reason ? el('div', {class: 'hint'}, one.reason) : null]},
    {title: 'Lag', class: 'num', render: (one) => lagOf(one)},
    {title: 'Last contact', class: 'num', render: (one) => (one.type === 'leader' ? el('span', {class: 'muted'}, 'leads') : one.last_contact_ms === null ? 'never' : `${format.ms(one.last_contact_ms)} ago`)},
    {title: 'Writes', class: 'num', render: (one) => el('span', {class: 'course'},
      parts.sparkline(history.get(one.id) || [], {label: `Writes of ${one.name} in the last minute`, width: 72, height: 22}),
      el('span', null, isLive(one) && one.writes_per_s !== null ? `${format.short(one.writes_per_s)} /s` : '–'))},
    {title: 'Flush', class: 'num', render: (one) => format.ms(isLive(one) ? one.fsync_ms : null)},
    {title: 'Disk free', class: 'num', render: (one) => disk(one)},
    {title: 'Version', render: (one) => [one.version || '–', el('div', {class: 'hint up'}, one.uptime_s === null || !isLive(one) ? '' : `up ${format.duration(one.uptime_s)}`)]},
    {title: 'Address', render: (one) => el('code', null, one.address)},
    {title: 'Actions', render: (one) => el('button', {type: 'button', 'aria-label': `Details and actions of ${one.name}`, onclick: () => open(one)}, 'Details')},
  ];
}

function lagOf(one) {
  if (one.lag === null) return '–';
  return one.lag === 0 ? el('span', {class: 'muted'}, '0 entries') : format.plural(one.lag, 'entry', 'entries');
}

function disk(one) {
  if (one.disk_free === null || !isLive(one)) return '–';
  return [format.bytes(one.disk_free), isShort(one) ? [' ', parts.badge('bad', 'short')] : null];
}

// -- the timeline ----------------------------------------------------------------------------------

const KINDS = {
  leader: 'info', 'no leader': 'bad', joined: 'ok', removed: 'off', left: 'off', renamed: 'info',
  failed: 'bad', back: 'ok', stopped: 'off', setting: 'info', alarm: 'bad',
};

function showTimeline(box, events) {
  if (!events.length) {
    replace(box, el('li', {class: 'muted'}, 'Nothing has happened since this node began to note it.'));
    return;
  }
  replace(box, events.map((one) => el('li', null,
    el('time', {datetime: new Date(one.at_ms).toISOString()}, format.time(one.at_ms)),
    parts.badge(KINDS[one.kind] || 'info', one.kind),
    el('span', {title: one.id ? `id ${one.id}` : null}, one.text || one.member))));
}

