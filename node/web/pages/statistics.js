// Statistics: what was counted in the last minutes, hours and days, per node and together.

import {Board, load as loadCharts} from '../charts.js';
import {el, replace} from '../dom.js';
import * as format from '../format.js';
import * as parts from '../parts.js';

export const title = 'Statistics';

const RANGES = [['10 min', 600], ['1 h', 3600], ['24 h', 86400], ['7 d', 604800]];
const AGAIN_MS = [5000, 60000];  // At least and at most, between two looks.
const CSV_MAX = 64 * 1024 * 1024;

// The seconds between points that a node keeps, and how far back each goes.
const STEPS = [[1, 600], [15, 21600], [120, 604800]];

const perSecond = (n) => `${format.short(n)} /s`;
// `sum`: what all nodes did together is their sum; else it is that of the node with the most.
const CHARTS = [
  {title: 'Requests', series: ['requests_per_s'], unit: perSecond, sum: true},
  {title: 'Writes', series: ['writes_per_s'], unit: perSecond, sum: true},
  {title: 'DNS queries', series: ['dns_per_s'], unit: perSecond, sum: true},
  {title: 'Time of a request', series: ['http_p50_ms', 'http_p99_ms'], unit: format.ms},
  {title: 'Time of a write', series: ['write_p50_ms', 'write_p99_ms'], unit: format.ms},
  {title: 'Time of a flush', series: ['fsync_p50_ms', 'fsync_p99_ms'], unit: format.ms},
  {title: 'Lag of the event loop', series: ['loop_lag_p99_ms'], unit: format.ms},
  {title: 'Memory', series: ['memory_bytes'], unit: format.bytes, sum: true},
  {title: 'Disk used', series: ['disk_used_bytes'], unit: format.bytes, sum: true},
  {title: 'Keys', series: ['keys'], unit: format.count},
];
const SERIES = CHARTS.flatMap((chart) => chart.series);
const WORDS = {p50: 'half are faster (p50)', p99: '99 of 100 are faster (p99)'};

export function mount(root, {api, live, node}) {
  let seconds = RANGES[0][1], who = 'each', zoom = null, found = null, due = 0, turn = 0, uPlot = null, isOver = false;
  const state = el('div');
  const grid = el('div', {class: 'charts'});
  const board = new Board(setZoom);
  const charts = new Map();
  const range = group('Span', RANGES.map(([text, value]) => [text, value]), () => seconds, (value) => { seconds = value; zoom = null; load(); });
  const nodes = el('div');
  const reset = el('button', {type: 'button', hidden: true, onclick: () => setZoom(null)}, 'All of it');
  const zoomIn = el('button', {type: 'button', onclick: () => scale(0.5)}, 'Zoom in');
  const zoomOut = el('button', {type: 'button', onclick: () => scale(2)}, 'Zoom out');
  const csv = el('button', {type: 'button', onclick: () => save()}, 'Save as CSV');
  const missing = el('div');
  root.append(el('h1', {class: 'aside'}, title),
    parts.panel('Statistics', {end: [reset, zoomIn, zoomOut, csv]},
      el('div', {class: 'tools'}, range.node, nodes),
      el('p', {class: 'hint'}, 'Drag over a chart to see a part of it on all of them; twice clicked, it shows all again.'), missing),
    state, grid);

  function showChoices() {
    const names = live.cluster ? live.cluster.nodes.map((one) => one.name) : node.name ? [node.name] : [];
    if (nodes.dataset.names === names.join('\n')) return;
    nodes.dataset.names = names.join('\n');
    if (who !== 'each' && who !== 'together' && !names.includes(who)) who = 'each';
    replace(nodes, group('Nodes', [['Each node', 'each'], ['Together', 'together'], ...names.map((name) => [name, name])],
      () => who, (value) => { who = value; load(); }).node);
  }

  async function load() {
    const mine = (turn += 1);
    clearTimeout(due);
    try {
      uPlot = uPlot || await loadCharts();
      const since = Math.round(zoom ? zoom.from * 1000 : Date.now() - seconds * 1000);
      const all = who === 'each' || who === 'together';
      // Named, since by the time the node looks, the moment is just out of reach of the finest.
      const [step] = STEPS.find(([, reach]) => Date.now() - since <= reach * 1000 + 1000) || STEPS.at(-1);
      const query = new URLSearchParams({node: all ? 'all' : who, since, step});
      const answer = await api.get(`/v1/statistics?${query}`);
      if (mine !== turn || isOver) return;
      found = {nodes: all ? answer.nodes : {[who]: answer}, missing: answer.missing || []};
      replace(state);
      draw();
    } catch (error) {
      if (mine !== turn || isOver) return;
      if (error.status === 404) replace(state, parts.empty('No statistics here', 'This node keeps none: its version is older than the dashboard.'));
      else if (!live.lost) replace(state, parts.problem(error, load));
    }
    const step = found ? Math.max(...Object.values(found.nodes).map((one) => one.step), 1) : 1;
    if (!isOver) due = setTimeout(load, Math.min(Math.max(step * 1000, AGAIN_MS[0]), AGAIN_MS[1]));
  }

  // This node's newest point comes by the stream, each second; what other nodes have is asked for.
  function newest({at_ms, series}) {
    const own = found && !zoom && found.nodes[node.name];
    if (!own || own.step !== 1) return;
    const place = Math.round((at_ms - own.since) / 1000);
    if (place < 0 || place > 2 * seconds) return;
    for (const [name, value] of Object.entries(series)) {
      const points = own.series[name];
      if (!points || points.length > place) continue;
      while (points.length < place) points.push(null);
      points.push(value);
    }
    draw();
  }

  function draw() {
    const kept = aligned(found.nodes);
    replace(missing, found.missing.length ? parts.note('warn', el('p', null, `${found.missing.join(', ')} did not answer in time and ${found.missing.length === 1 ? 'is' : 'are'} not shown.`)) : null);
    if (!kept.times.length) {
      replace(state, parts.empty('Nothing counted yet', 'The first points come in some seconds.'));
      return;
    }
    for (const {title: name, series, unit, sum} of CHARTS) {
      if (!charts.has(name)) {
        charts.set(name, board.chart(uPlot, name, unit, unit === format.bytes));
        grid.append(charts.get(name).node);
      }
      charts.get(name).set(kept.times, lines(kept, series, sum, who));
    }
    board.show(zoom || {from: kept.times[kept.times.length - 1] - seconds, to: kept.times[kept.times.length - 1]});
    reset.hidden = !zoom;
  }

  function setZoom(next) {
    const before = zoom;
    zoom = next;
    reset.hidden = !zoom;
    board.show(zoom);
    // A shorter time may be there in finer steps.
    if (before !== zoom) load();
  }

  function scale(factor) {
    const now = Date.now() / 1000;
    const {from, to} = zoom || {from: now - seconds, to: now};
    const span = Math.min((to - from) * factor, RANGES[RANGES.length - 1][1]);
    if (span < 10) return;
    const end = Math.min((from + to) / 2 + span / 2, now);
    setZoom(factor > 1 && span >= seconds ? null : {from: end - span, to: end});
  }

  function save() {
    if (!found) return;
    const rows = [['time', 'node', ...SERIES].join(',')];
    let size = 0;
    for (const [name, one] of Object.entries(found.nodes)) {
      const length = Math.max(0, ...Object.values(one.series).map((points) => points.length));
      for (let at = 0; at < length && size < CSV_MAX; at += 1) {
        const row = [new Date(one.since + at * one.step * 1000).toISOString(), cell(name),
          ...SERIES.map((series) => one.series[series]?.[at] ?? '')].join(',');
        size += row.length + 1;
        rows.push(row);
      }
    }
    const link = el('a', {href: URL.createObjectURL(new Blob([`${rows.join('\n')}\n`], {type: 'text/csv'})), download: 'hstore-statistics.csv'});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    parts.toast(`${format.plural(rows.length - 1, 'row')} saved`, 'ok');
  }

  showChoices();
  replace(state, el('p', {class: 'muted'}, 'Loading …'));
  load();
  const offs = [live.on('cluster', showChoices), live.on('back', load), live.on('statistics', newest)];
  return () => { isOver = true; clearTimeout(due); offs.forEach((off) => off()); board.close(); };
}

// A name of a node in a CSV: one that a spreadsheet would take for a formula, or that has a comma.
function cell(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
}

// Bring the points of all nodes to common times: those of the coarsest steps that any of them has.
export function aligned(nodes) {
  const all = Object.entries(nodes).filter(([, one]) => Object.values(one.series).some((points) => points.length));
  if (!all.length) return {times: [], nodes: {}};
  const step = Math.max(...all.map(([, one]) => one.step));
  const length = (one) => Math.max(...Object.values(one.series).map((points) => points.length));
  const first = Math.floor(Math.min(...all.map(([, one]) => one.since)) / 1000 / step);
  const last = Math.floor(Math.max(...all.map(([, one]) => one.since / 1000 + (length(one) - 1) * one.step)) / step);
  const times = Array.from({length: last - first + 1}, (_, at) => (first + at) * step);
  const placed = {};
  for (const [name, one] of all) {
    placed[name] = {};
    for (const [series, points] of Object.entries(one.series)) {
      const to = new Array(times.length).fill(null);
      points.forEach((value, at) => {
        const place = Math.floor((one.since / 1000 + at * one.step) / step) - first;
        if (value !== null && place >= 0 && place < to.length) to[place] = to[place] === null ? value : Math.max(to[place], value);
      });
      placed[name][series] = to;
    }
  }
  return {times, nodes: placed};
}

function lines(kept, series, sum, who) {
  const names = Object.keys(kept.nodes).sort((one, other) => one.localeCompare(other, 'en', {numeric: true}));
  const of = (name, one) => kept.nodes[name][one] || new Array(kept.times.length).fill(null);
  const word = (one) => WORDS[(one.match(/p\d\d/) || [''])[0]] || 'now';
  if (who === 'together') {
    return series.map((one) => ({
      label: series.length > 1 ? word(one) : sum ? 'all nodes' : 'the highest',
      points: kept.times.map((_, at) => names.map((name) => of(name, one)[at]).filter((n) => n !== null)
        .reduce((a, b) => (a === null ? b : sum ? a + b : Math.max(a, b)), null)),
    }));
  }
  if (who === 'each') {
    // One line a node: of times, the slower figure.
    const one = series[series.length - 1];
    return names.map((name) => ({label: series.length > 1 ? `${name} p99` : name, points: of(name, one)}));
  }
  return series.map((one) => ({label: series.length > 1 ? word(one) : who, points: of(who, one)}));
}

// Buttons of which one is chosen.
function group(label, choices, current, choose) {
  const buttons = choices.map(([text, value]) => el('button', {type: 'button', onclick: () => { choose(value); mark(); }, 'data-value': value}, text));
  function mark() {
    buttons.forEach((button, at) => button.setAttribute('aria-pressed', String(choices[at][1] === current())));
  }
  mark();
  return {node: el('div', {class: 'group', role: 'group', 'aria-label': label}, buttons), mark};
}

