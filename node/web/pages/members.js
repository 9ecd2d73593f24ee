// What can be done with a member, and with the settings: each action says first what it will do.

import {el, replace} from '../dom.js';
import * as format from '../format.js';
import * as parts from '../parts.js';
import {isLive} from './alarms.js';

// Show all that is known of a member, with what can be done with it.
export function open(one, cluster, context) {
  const {may, node} = context;
  const isOwn = one.id === node.id;
  const isLeader = one.name === cluster.leader;
  const facts = [
    ['Id', el('code', null, one.id)], ['Role', one.type], ['Health', parts.health(one.health)],
    ['Why', one.reason], ['API', el('code', null, one.address)], ['Peers', el('code', null, one.peer_address)],
    ['DNS', el('code', null, one.dns_address)], ['Version', one.version],
    ['Up', one.uptime_s === null || !isLive(one) ? null : format.duration(one.uptime_s)], ['Term', format.count(one.term)],
    ['Committed', one.commit_index === null ? null : `entry ${format.count(one.commit_index)}`],
    ['Applied', one.applied_index === null ? null : `entry ${format.count(one.applied_index)}`],
    ['Disk', one.disk_free === null ? null : `${format.bytes(one.disk_free)} free, ${format.bytes(one.disk_needed)} needed`],
  ].filter(([, value]) => value);
  const choices = may('operator write') ? [
    one.voter && !isLeader && isLive(one) ? ['Hand over the lead', () => handOver(one, cluster, context)] : null,
    ['Rename', () => rename(one, context)],
    isOwn ? ['Stop', () => stop(one, cluster, context)] : null,
    ['Remove', () => remove(one, cluster, context), true],
  ].filter(Boolean) : [];
  const close = el('button', {type: 'button', onclick: () => dialog.close()}, 'Close');
  const dialog = el('dialog', {'aria-labelledby': 'member-name'},
    el('form', {method: 'dialog'},
      el('h2', {id: 'member-name'}, one.name),
      el('dl', {class: 'facts'}, facts.map(([name, value]) => [el('dt', null, name), el('dd', null, value)])),
      choices.length ? null : el('p', {class: 'hint'}, 'Changes are made from the node\'s own machine.'),
      isOwn ? null : el('p', {class: 'hint'}, 'Its own page: ',
        el('a', {href: `${location.protocol}//${one.address}/ui/`}, `${one.address}/ui/`), '. To stop it, do so there.'),
      el('div', {class: 'buttons'}, close, choices.map(([text, run, danger]) => el('button',
        {type: 'button', class: danger ? 'danger' : null, onclick: () => { parts.shut(dialog); run(); }}, text)))));
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  close.focus();
}

function handOver(one, cluster, {api}) {
  return parts.form({
    title: `Hand over the lead to ${one.name}?`,
    effect: [`${cluster.leader || 'Nobody'} leads now. ${one.name} will lead as soon as it has the whole log; writes wait for that moment, usually less than a second. Nothing is lost.`],
    action: `Let ${one.name} lead`,
    run: async () => {
      const {leader} = await api.send('POST', '/v1/leader/transfer', {to: one.id});
      parts.toast(`${leader} leads`, 'ok');
    },
  });
}

function rename(one, {api}) {
  return parts.form({
    title: `Rename ${one.name}`,
    effect: [`Its DNS name changes at once: who asks for ${one.name} finds nothing any more. Its id and its data stay.`],
    fields: [{name: 'name', label: 'New name', value: one.name, required: true}],
    action: 'Rename',
    run: async ({name}) => {
      await api.send('POST', '/v1/node/rename', {node: one.id, name});
      parts.toast(`${one.name} is called ${name} now`, 'ok');
    },
  });
}

function stop(one, cluster, {api}) {
  return parts.form({
    title: `Stop ${one.name}?`,
    effect: [
      `This node ends cleanly: it ${one.name === cluster.leader ? 'hands over the lead, ' : ''}gives up its vote where the others can do without it, and serves nobody any more. Nothing is lost, and it stays a member.`,
      'This page is served by it, so it will say that it is lost. To start it again, use hstore start on its machine.',
      after(one, cluster),
    ],
    action: `Stop ${one.name}`, danger: true,
    run: async () => { await api.send('POST', '/v1/node/stop'); },
  });
}

function remove(one, cluster, {api}) {
  return parts.form({
    title: `Remove ${one.name} for good?`,
    effect: [
      `${one.name} (${one.address}) leaves the cluster for ever: it gets no more data, its id is never let in again, and its process ends. What is in its directory stays there.`,
      after(one, cluster),
    ],
    fields: [{name: 'typed', label: `Type ${one.name} to go on`, required: true,
      check: (text) => (text === one.name ? '' : `type exactly ${one.name}`)}],
    action: `Remove ${one.name}`, danger: true,
    run: async () => {
      await api.send('POST', '/v1/leader/remove', {node: one.id});
      parts.toast(`${one.name} was removed`, 'ok');
    },
  });
}

// How many may fail when this one is gone.
function after(one, cluster) {
  const rest = cluster.nodes.filter((other) => other.voter && other.id !== one.id);
  if (!rest.length) return 'It is the only voter: nothing can be read or written then.';
  const live = rest.filter(isLive).length;
  const tolerance = live - (Math.floor(rest.length / 2) + 1);
  return tolerance > 0 ? `${format.plural(rest.length, 'voter')} remain, of which ${tolerance} more may fail.`
    : `${format.plural(rest.length, 'voter')} remain: none of them may fail then.`;
}

// -- settings --------------------------------------------------------------------------------------

export function showSettings(box, found, context, reload) {
  const rows = Object.entries(found).map(([key, setting]) => ({key, ...setting}));
  const table = parts.table({
    caption: 'Settings', rowKey: (row) => row.key,
    columns: [
      {title: 'Setting', render: (row) => el('code', null, row.key)},
      {title: 'Value', render: (row) => [el('strong', null, row.value || '(empty)'), el('div', {class: 'hint'}, row.source)]},
      {title: 'Change', class: 'num', render: (row) => (context.may('operator write')
        ? el('button', {type: 'button', 'aria-label': `Change ${row.key}`, onclick: () => change(row, context, reload)}, 'Change') : null)},
    ],
  });
  table.node.classList.add('cards');
  table.set(rows);
  replace(box, table.node);
}

function change(row, {api}, reload) {
  return parts.form({
    title: `Change ${row.key}`,
    effect: [row.key === 'log_level' ? 'This node logs at another level from now on, until it is started again.'
      : `Every member uses the new value as soon as a majority has it. It is ${row.value || 'empty'} now (${row.source}).`],
    fields: [{name: 'value', label: 'New value', value: row.value}],
    action: 'Change',
    run: async ({value}) => {
      const changed = await api.send('PUT', `/v1/config/${encodeURIComponent(row.key)}`, {value});
      parts.toast(`${row.key} is ${changed.value} now${changed.note ? `: ${changed.note}` : ''}`, 'ok');
      reload();
    },
  });
}
