// The shell: which page is shown, how this page's node is, the switch between light and dark.

import * as api from './api.js';
import {el, replace, setText} from './dom.js';
import * as format from './format.js';
import * as parts from './parts.js';
import * as signin from './signin.js';
import {live} from './stream.js';
import {current, onToken, wantsToken} from './token.js';

const PAGES = ['cluster', 'statistics', 'services', 'keys', 'sessions', 'dns'];
const NEXT_SEEN = 40;  // Pixels of the link beside the one that is here.
const root = document.getElementById('page');
const node = {name: '', id: ''};
let allowed = new Set();
let shown = null;   // {name, unmount} of the page that is mounted.
let failures = 0;   // Modules of pages that could not be loaded.
let turn = 0;       // Counts routes, so that a page that loads late is not put over a newer one.

// What a page is given. `may('key write')`: whether the one who looks may do what needs that right.
// `path`: what follows the page's name in the address, decoded: the key of `#/keys/a%2Fb` is `a/b`.
function context(path) {
  return {api, live, el, parts, format, node, path, go, may: (right) => allowed.has(right)};
}

function go(hash) {
  location.hash = hash.startsWith('#') ? hash : `#${hash}`;
}

function place() {
  const [, name = '', ...rest] = location.hash.slice(1).split('/');
  return {name: name || 'cluster', path: decode(rest.join('/'))};
}

function decode(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

async function route() {
  const mine = (turn += 1);
  const {name, path} = place();
  showLeaderless();
  for (const link of document.querySelectorAll('#nav a')) {
    const isHere = link.getAttribute('href') === `#/${name}`;
    if (isHere) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
    if (isHere) reveal(link);
  }
  // A page that can go to another path of its own does so, and keeps what it shows.
  if (shown && shown.name === name && shown.unmount && shown.unmount.moved) {
    shown.unmount.moved(path);
    return;
  }
  if (shown && shown.unmount) shown.unmount();
  shown = {name, unmount: null};
  let page;
  try {
    if (!PAGES.includes(name)) throw new Error(name);
    page = await import(`./pages/${name}.js${failures ? `?${failures}` : ''}`);
  } catch (error) {
    if (mine !== turn) return;
    // A browser may keep that an address could not be loaded.
    if (PAGES.includes(name)) failures += 1;
    root.dataset.page = name;
    title('Not here');
    replace(root, missing(name, error));
    return;
  }
  if (mine !== turn) return;
  const isFirst = root.dataset.page === undefined;
  root.dataset.page = name;
  replace(root);
  title(page.title);
  shown.unmount = page.mount(root, context(path));
  if (!isFirst) root.focus({preventScroll: true});
  scrollTo(0, 0);
}

// Scroll the bar of a narrow window so that a link is seen, and a part of the next one. Not by
// scrollIntoView, from which on the key Tab begins at that link (findings/chromium-scroll-moves-tab.sh).
function reveal(link) {
  const bar = link.parentElement;
  const from = link.offsetLeft - bar.offsetLeft - NEXT_SEEN;
  const to = from + link.offsetWidth + 2 * NEXT_SEEN;
  if (from < bar.scrollLeft) bar.scrollLeft = from;
  else if (to > bar.scrollLeft + bar.clientWidth) bar.scrollLeft = to - bar.clientWidth;
}

function missing(name, error) {
  if (!PAGES.includes(name)) {
    return parts.empty('There is no such page', `Nothing is called ${name}; all pages are in the bar above.`, el('a', {href: '#/cluster'}, 'Go to Cluster'));
  }
  return parts.empty('This page could not be loaded', live.lost ? 'Its node does not answer. It is loaded when that is back.' : error.message,
    el('button', {type: 'button', onclick: anew}, 'Try again'));
}

function title(page) {
  document.title = `${page} · ${node.name || 'hstore'}`;
}

// -- the state of this page's node ----------------------------------------------------------------

const lostBox = document.getElementById('lost');
const linkState = document.getElementById('link-state');
let lostClock = 0;

function showState() {
  const {lost, denied} = live;
  showLeaderless();
  linkState.className = `link-state ${lost ? 'is-lost' : denied ? '' : live.isConnected ? 'is-live' : ''}`;
  setText(linkState, lost ? 'lost' : denied ? 'no access' : live.isConnected ? 'live' : 'connecting');
  document.documentElement.classList.toggle('stale', Boolean(lost));
  lostBox.hidden = !lost;
  clearInterval(lostClock);
  if (!lost) return;
  const age = el('span', {'aria-live': 'off'});
  const tick = () => setText(age, format.duration((Date.now() - lost.since) / 1000));
  tick();
  lostClock = setInterval(tick, 1000);
  const others = live.cluster ? live.cluster.nodes.filter((one) => one.id !== node.id) : [];
  replace(lostBox,
    el('p', null, el('strong', null, `${node.name || 'This node'} is lost`),
      `: ${lost.why} (`, age, '). It is asked again every second; what is below is as it was then.'),
    others.length ? el('p', null, 'The other members show the same: ', others.map((one) => [
      el('a', {href: `${location.protocol}//${one.address}/ui/${location.hash}`}, one.name),
      ` (${one.address}) `])) : null);
}

// An election takes a moment, of which nobody has to be told.
const LEADERLESS_MS = 2000;
let leaderlessSince = 0;

// The page Cluster says so itself, and more of it.
function showLeaderless() {
  const {cluster, lost} = live;
  const isSo = Boolean(cluster && !cluster.leader && !cluster.waiting_for && cluster.nodes.length);
  leaderlessSince = isSo ? leaderlessSince || Date.now() : 0;
  document.getElementById('leaderless').hidden = !isSo || Boolean(lost) || place().name === 'cluster'
    || Date.now() - leaderlessSince < LEADERLESS_MS;
}

function showNode() {
  const box = document.getElementById('here');
  if (!node.name) return;
  setText(box, `this node: ${node.name}`);
  box.title = `id ${node.id}`;
}

// Mount the page anew, unless something is being written in it.
function anew() {
  if (!shown || shown.unmount?.isEdited?.()) return;
  shown.unmount?.();
  shown = null;
  route();
}

// Ask what may be done here; returns whether that has changed.
async function learn() {
  const before = [...allowed].join();
  try {
    const me = await api.get('/v1/ui/me');
    node.name = me.node;
    node.id = me.id;
    allowed = new Set(me.may);
    showNode();
  } catch (error) {
    if (error.status !== 0 && !wantsToken(error.status, error.body)) parts.toast(error.text || error.message, 'bad');
  }
  return [...allowed].join() !== before;
}

// -- light and dark -------------------------------------------------------------------------------

const themes = ['auto', 'light', 'dark'];
const themeButton = document.getElementById('theme');

function theme(next) {
  if (next === 'auto') document.documentElement.removeAttribute('data-theme');
  else document.documentElement.dataset.theme = next;
  setText(themeButton, {auto: '◐ auto', light: '☀ light', dark: '☾ dark'}[next]);
  themeButton.setAttribute('aria-label', `Theme: ${next}. Switch to ${after(next)}`);
  try { localStorage.setItem('hstore-theme', next); } catch { /* Then it is for this tab only. */ }
  dispatchEvent(new Event('theme'));
}

function after(one) { return themes[(themes.indexOf(one) + 1) % themes.length]; }

function kept() {
  try { return localStorage.getItem('hstore-theme'); } catch { return null; }
}

let chosen = themes.includes(kept()) ? kept() : 'auto';
theme(chosen);
themeButton.addEventListener('click', () => { chosen = after(chosen); theme(chosen); });

// -- begin ----------------------------------------------------------------------------------------

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  root.focus();
});
addEventListener('hashchange', route);
live.on('back', async () => { showState(); if (await learn() || (shown && !shown.unmount)) anew(); });
live.on('lost', showState);
live.on('denied', showState);
onToken(async (token) => {
  allowed = new Set();
  if (!token && shown) { shown.unmount?.(); shown = null; replace(root); }
  await learn();
  if (token !== current()) return;
  showState();
  if (shown) anew(); else route();
});
live.on('cluster', (cluster) => {
  const own = cluster.nodes.find((one) => one.id === node.id);
  if (own && own.name !== node.name) { node.name = own.name; showNode(); }
  showLeaderless();
});
signin.begin(document.getElementById('sign'));
showState();
await learn();
live.start();
route();
