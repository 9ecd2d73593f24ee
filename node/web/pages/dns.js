// DNS: asks this node's own server, shows the answer as `dig` does, and what a resolver makes of it.

import {el, replace} from '../dom.js';
import * as format from '../format.js';
import * as parts from '../parts.js';

export const title = 'DNS';

const TYPES = ['A', 'AAAA', 'SRV', 'TXT', 'CNAME', 'NS', 'SOA', 'PTR', 'MX', 'HINFO', 'CAA', 'NAPTR', 'SVCB',
  'HTTPS', 'DS', 'DNSKEY', 'TLSA', 'SSHFP', 'ANY'];
const NEGATIVE_MAX_S = 3 * 3600;  // RFC 2308, section 5.

export function mount(root, {api, live, path}) {
  const zone = () => (live.cluster ? live.cluster.zone : 'hstore.local');
  const name = el('input', {id: 'dns-name', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'none', required: true, value: path.split('?')[0] || ''});
  const type = el('select', {id: 'dns-type'}, TYPES.map((one) => el('option', null, one)));
  const examples = el('p', {class: 'hint examples'});
  const result = el('div', {'aria-live': 'polite', class: 'dns-result'});
  const form = el('form', {class: 'tools', onsubmit: (event) => { event.preventDefault(); ask(); }},
    el('div', {class: 'field grow'}, el('label', {for: 'dns-name'}, 'Name'), name),
    el('div', {class: 'field'}, el('label', {for: 'dns-type'}, 'Type'), type),
    el('button', {type: 'submit', class: 'primary'}, 'Ask'));
  root.append(el('h1', {class: 'aside'}, title),
    parts.panel('Ask this node\'s DNS server', {}, form, examples), result);
  let zoneShown = '', turn = 0;

  function suggest() {
    if (zoneShown === zone()) return;
    zoneShown = zone();
    const first = live.cluster && live.cluster.nodes[0];
    const some = [[`leader.${zoneShown}`, 'A'], [zoneShown, 'A'], [`_hstore._tcp.${zoneShown}`, 'SRV'], [zoneShown, 'SOA'],
      first ? [`${first.name}.${zoneShown}`, 'A'] : null].filter(Boolean);
    replace(examples, 'For example: ', some.map(([one, kind], at) => [at ? ', ' : '', el('button', {type: 'button', class: 'quiet link',
      onclick: () => { name.value = one; type.value = kind; ask(); }}, `${one} ${kind}`)]));
    if (!name.value) name.value = `leader.${zoneShown}`;
  }

  async function ask() {
    const mine = (turn += 1);
    replace(result, el('p', {class: 'muted'}, 'Asking …'));
    try {
      const query = new URLSearchParams({name: name.value.trim(), type: type.value});
      const found = await api.get(`/v1/ui/dns?${query}`);
      if (mine === turn) replace(result, show(found, name.value.trim(), type.value));
    } catch (error) {
      if (mine === turn) replace(result, parts.problem(error, ask));
    }
  }

  suggest();
  const off = live.on('cluster', suggest);
  ask();
  return off;
}

const KINDS = {NOERROR: 'ok', NXDOMAIN: 'warn', SERVFAIL: 'bad', REFUSED: 'bad', FORMERR: 'bad', NOTIMP: 'bad'};

function show(found, name, type) {
  const at = found.server.lastIndexOf(':');
  const host = found.server.slice(0, at).replace(/^\[|\]$/g, '');
  // What dig would take for an option, a server or a type is said to be the name.
  const isPlain = !/^[-+@]/.test(name) && !/^(IN|CH|HS|TYPE\d+|CLASS\d+)$/i.test(name) && !TYPES.includes(name.toUpperCase());
  const command = `dig @${host} -p ${found.server.slice(at + 1)} ${isPlain ? '' : '-q '}${quoted(name)} ${isPlain ? '' : '-t '}${type}`;
  const isEmpty = found.status === 'NOERROR' && !found.answer.length;
  return [
    parts.panel('Answer', {end: [parts.badge(isEmpty ? 'warn' : KINDS[found.status] || 'bad', found.status),
      el('span', null, `${format.count(found.bytes)} B by ${found.over} in ${format.ms(found.took_ms)}`)]},
    el('p', null, 'flags ', found.flags.map((flag) => el('span', {class: 'tag', title: FLAGS[flag] || null}, flag)),
      ' question ', el('code', null, found.question || 'none')),
    section('Answer', found.answer, isEmpty ? 'The name is there, and has no record of this type.' : 'None.'),
    section('Authority', found.authority), section('Additional', found.additional),
    el('div', {class: 'command'}, el('code', {tabindex: '0'}, command),
      el('button', {type: 'button', onclick: () => parts.copy(command)}, 'Copy'))),
    parts.panel('What a resolver makes of it', {}, el('ul', {class: 'plain'}, meaning(found).map((text) => el('li', null, text)))),
  ];
}

const FLAGS = {qr: 'a reply', aa: 'from a server that owns the zone', tc: 'cut off: to be asked again by TCP',
  rd: 'the question wanted recursion', ra: 'the server asks other servers, too', ad: 'proven by DNSSEC'};

// A word that a shell takes as it is.
function quoted(text) {
  return /^[\w.-]+$/.test(text) ? text : `'${text.replace(/'/g, '\'\\\'\'')}'`;
}

function section(title, lines, none) {
  if (!lines.length) return none ? el('p', {class: 'muted'}, none) : null;
  const table = parts.table({caption: `${title} section`, rowKey: (row) => row.key, columns: [
    {title: 'Name', render: (row) => el('code', null, row.name)},
    {title: 'TTL', class: 'num', render: (row) => `${format.count(row.ttl_s)} s`},
    {title: 'Type', render: (row) => row.type},
    {title: 'Data', render: (row) => el('code', null, row.data)},
  ]});
  table.node.classList.add('cards');
  table.set(lines.map((line, at) => ({...line, key: at})));
  return el('div', null, el('h3', null, `${title} (${format.plural(lines.length, 'record')})`), table.node);
}

// What a resolver does with it: RFC 1035, 2181 (TTL), 2308 (what is not there), 8767 is not assumed.
export function meaning(found) {
  const soa = found.authority.find((line) => line.type === 'SOA');
  const minimum = soa ? Math.min(soa.ttl_s, Number(soa.data.replace(/[()]/g, ' ').trim().split(/\s+/).pop()) || 0, NEGATIVE_MAX_S) : 0;
  const keeps = soa ? `It remembers that for ${format.duration(minimum)} (the lower of the SOA's TTL and minimum): a name that comes to be is found after that.`
    : 'There is no SOA record, so it does not remember that and asks each time.';
  const said = [];
  if (found.over === 'TCP') said.push('By UDP the answer was cut off (flag tc), so it asks again by TCP. Firewalls must let TCP through as well.');
  if (found.status === 'NXDOMAIN') {
    said.push('The name does not exist: programs get “no such host”, and the resolver asks no other server.', keeps);
  } else if (found.status === 'SERVFAIL') {
    said.push('The server cannot say, as while there is no leader: the resolver tries its next server, and remembers nothing or a few seconds at most.');
  } else if (found.status === 'REFUSED') {
    said.push('This server is not for that name: the resolver tries its next server. Send it names of this zone only, by a forwarding rule.');
  } else if (found.status !== 'NOERROR') {
    said.push(`The server did not understand the question (${found.status}): the resolver tries its next server, or asks in a simpler form.`);
  } else if (!found.answer.length) {
    said.push('The name exists without a record of this type: programs that asked for an address get none.', keeps);
  } else {
    const ttl = Math.min(...found.answer.map((line) => line.ttl_s));
    said.push(ttl ? `It hands on ${format.plural(found.answer.length, 'record')} and answers from its cache for ${format.duration(ttl)}; a change is seen at the latest then.`
      : `It hands on ${format.plural(found.answer.length, 'record')} and keeps nothing (TTL 0): each question comes here.`);
    const addresses = found.answer.filter((line) => line.type === 'A' || line.type === 'AAAA').length;
    if (addresses > 1) said.push('There are several addresses: most programs try them in the order they come, which differs from answer to answer.');
    if (found.answer.some((line) => line.type === 'CNAME')) said.push('A CNAME is followed: the resolver asks for the name it gives, unless that is in the same answer.');
  }
  if (!found.flags.includes('aa') && found.status !== 'REFUSED') said.push('The answer is not from this server\'s own zone (no flag aa): it comes from a server that this node has asked.');
  return said;
}
