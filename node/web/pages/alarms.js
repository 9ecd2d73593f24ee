// What holds now and somebody has to mend: what it is, at which member, and what to do.

import * as format from '../format.js';

const SLOW_CONTACT_MS = 2000;
export const LAG_ENTRIES = 1000;

export const isLive = (one) => one.health === 'alive' || one.health === 'suspect';

// The alarms that members raise themselves (hstore_alarm), by kind: how bad it is, what it is, what to do.
// `who` are the names of those that raise it. What the figures of a member say better is not here.
const RAISED = {
  replica_differs: ['bad', (who) => `Copies of the data differ (found by ${who})`,
    'Some member does not hold what the majority holds; the log of those who found it names it. Keep its data directory for whoever looks into it, remove it with hstore leave, and join again with an empty directory.'],
  clock_jump: ['warn', (who) => `The clock of ${who} was set`,
    'Its time of day was moved at once. Have a time service (chrony, systemd-timesyncd) let it run faster or slower instead. Nothing that the cluster promises hangs on it, but times in logs and statistics are off around then.'],
  clock_skew: ['warn', (who) => `Clocks differ (seen by ${who})`,
    'The time of day of a member is not that of the leader; what happened, below, says whose and by how much. If every member sees it, the leader\'s clock is the wrong one. Have all machines keep their time by NTP (chrony, systemd-timesyncd).'],
  term_jump: ['bad', (who) => `A term is far ahead (heard by ${who})`,
    'A member is in a term that no cluster reaches so soon by elections; what happened, below, and the log name it. It runs another version, or is no hstore: look at it, and upgrade or remove it. After a node was away for very many elections there is nothing to do.'],
  address_claimed: ['bad', (who) => `Another cluster claims the address of ${who}`,
    'A member of another cluster takes it for one of its own. Let one of them go: hstore leave -h NAME in the other cluster removes its member at this address. If this cluster was recovered from the other, stop that node.'],
};
// Of these, the health or the figures of the member say more.
const SAID_BY_FIGURES = new Set(['disk_short', 'lost_log', 'no_quorum_margin']);

function raised(nodes) {
  const by = new Map();
  for (const one of nodes) {
    for (const kind of (isLive(one) && one.alarms) || []) {
      if (!SAID_BY_FIGURES.has(kind)) by.set(kind, [...(by.get(kind) || []), one]);
    }
  }
  return [...by].map(([kind, at]) => {
    const who = at.map((one) => one.name).join(', ');
    if (!Object.hasOwn(RAISED, kind)) return ['bad', `${kind.replaceAll('_', ' ')} (alarm of ${who})`, `Its log says what it is about, and what to do: hstore monitor -h ${at[0].address}`];
    const [level, head, text] = RAISED[kind];
    return [level, head(who), text];
  });
}

// Returns a function that says of each cluster that comes how far each member is behind, in its order;
// null: not known. The figures of members are not of one moment: they come every `health_interval_ms`, some
// by way of the leader, and thousands may be written meanwhile. So a member is behind only by what had been
// committed before its figures can have been made.
export function lagMeter() {
  const seen = [];  // [when, the furthest commit] as they came, from the last that is old enough on.
  return (cluster, health_interval_ms) => {
    const now = performance.now(), age_ms = 2 * health_interval_ms + 1000;
    seen.push([now, Math.max(0, ...cluster.nodes.map((one) => one.commit_index || 0))]);
    while (seen.length > 1 && seen[1][0] <= now - age_ms) seen.shift();
    const [when, commit] = seen[0];
    // What came before the page was opened is not known, but how fast it came.
    const rate = Math.max(0, ...cluster.nodes.map((one) => one.writes_per_s || 0));
    const then = commit - Math.max(0, when - (now - age_ms)) * rate / 1000;
    return cluster.nodes.map((one) => (one.applied_index === null || !isLive(one) ? null : Math.max(0, Math.round(then - one.applied_index))));
  };
}

// Each as [level, what, what to do], the worst first. `behind`: what a lag meter says of the members.
export function alarmsOf(cluster, behind) {
  const found = raised(cluster.nodes);
  cluster.nodes.forEach((one, at) => {
    if (one.health === 'failed' || one.health === 'recovering') {
      found.push(['bad', one.health === 'failed' ? `${one.name} has failed` : `${one.name} is recovering`, `${sentence(one.reason || 'it does not answer the leader')}${one.health === 'failed' ? ' Start it on its machine (hstore start), or look at its network. If it will not come back, remove it.' : ''}`]);
    }
    if (isLive(one) && isShort(one)) {
      found.push(['bad', `${one.name} is short of disk`, `${format.bytes(one.disk_free)} are free and ${format.bytes(one.disk_needed)} are needed: make room there, or writes stop.`]);
    }
    if (isLive(one) && one.last_contact_ms > SLOW_CONTACT_MS) {
      found.push(['warn', `Slow link to ${one.name}`, `The leader heard from it ${format.ms(one.last_contact_ms)} ago. Look at the network between them, and at the load of its machine.`]);
    }
    if (behind[at] > LAG_ENTRIES) {
      found.push(['warn', `${one.name} lags behind`, `It has ${format.count(behind[at])} entries of the log to apply. Its disk or its network is slower than the others', or it was away.`]);
    }
  });
  const stopped = cluster.nodes.filter((one) => one.voter && one.health === 'stopped');
  if (stopped.length && cluster.nodes.some((one) => isLive(one) && (one.alarms || []).includes('no_quorum_margin'))) {
    const is = stopped.length === 1 ? 'is' : 'are';
    found.push(['bad', `${stopped.map((one) => one.name).join(', ')} ${is} stopped`, `While ${is === 'is' ? 'it is' : 'they are'} not there, no other voter may fail: start ${is === 'is' ? 'it' : 'them'} again (hstore start).`]);
  }
  const versions = new Set(cluster.nodes.map((one) => one.version).filter(Boolean));
  if (versions.size > 1) found.push(['warn', 'Versions differ', `The members run ${[...versions].sort().join(' and ')}: upgrade the older ones.`]);
  return found.sort(([one], [other]) => (one === other ? 0 : one === 'bad' ? -1 : 1));
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}${/[.!]$/.test(text) ? '' : '.'}`;
}

// By the word of the member itself, whose alarm holds a while longer than the figures show.
export function isShort(one) {
  return (one.alarms || []).includes('disk_short') || (one.disk_free !== null && one.disk_needed !== null && one.disk_free < one.disk_needed);
}
