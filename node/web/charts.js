// Charts by uPlot: one cursor and one zoom for all charts of a page, colours from the design tokens.

import {el, replace, setText, svg} from './dom.js';

const HEIGHT = 170;  // At the usual size of letters, as all distances here.
const COLOURS = 9;
// Lines differ by their dashes, too: no information by colour alone.
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [14, 4], [2, 6], [8, 3, 2, 3, 2, 3], [4, 2]];
// The steps of an axis of bytes: of ten, 95.4 MiB would stand where 96 MiB are meant.
const POWERS = Array.from({length: 52}, (_, at) => 2 ** at);
let loading = null;

// Load uPlot, once, when the first chart is wanted.
export function load() {
  loading = loading || new Promise((done, failed) => {
    document.head.append(el('link', {rel: 'stylesheet', href: 'vendor/uPlot.min.css'}));
    document.head.append(el('script', {src: 'vendor/uPlot.iife.min.js',
      onload: () => done(window.uPlot), onerror: () => { loading = null; failed(new Error('uPlot could not be loaded')); }}));
  });
  return loading;
}

const USUAL = 15;
const scaled = (pixels) => Math.round(pixels * parseFloat(getComputedStyle(document.documentElement).fontSize) / USUAL);
const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A token that is a colour, as it is in this theme: a canvas knows nothing of light-dark().
function colour(name) {
  const probe = el('i', {hidden: true, style: {color: `var(${name})`}});
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

// A board of charts that share their cursor and what part of the time they show.
// `onZoom({from, to})`: seconds since the epoch, chosen by dragging; null: all of it again.
export class Board {
  constructor(onZoom) {
    this.onZoom = onZoom;
    this._charts = new Map();
    this._range = null;
    this._again = () => { for (const chart of this._charts.values()) chart.build(); };
    this._dark = matchMedia('(prefers-color-scheme: dark)');
    addEventListener('theme', this._again);
    this._dark.addEventListener('change', this._again);
  }

  // `values(number)` → text with its unit, for the axis and the legend.
  chart(uPlot, title, values, isBytes) {
    const chart = new Chart(this, uPlot, title, values, isBytes);
    this._charts.set(title, chart);
    return chart;
  }

  // Show this part of the time on all charts.
  show(range) {
    this._range = range;
    for (const chart of this._charts.values()) chart.zoom(range);
  }

  close() {
    removeEventListener('theme', this._again);
    this._dark.removeEventListener('change', this._again);
    for (const chart of this._charts.values()) chart.close();
  }
}

class Chart {
  constructor(board, uPlot, title, values, isBytes) {
    this._board = board;
    this._uPlot = uPlot;
    this._values = values;
    this._isBytes = isBytes;
    this._plot = null;
    this._labels = [];
    this._data = null;
    this._box = el('div', {class: 'plot'});
    this._now = el('span', {class: 'now'});
    this.node = el('figure', {class: 'panel chart'}, el('figcaption', null, el('h2', null, title), this._now), this._box);
    this._size = new ResizeObserver(() => {
      if (this._plot) this._plot.setSize({width: this._box.clientWidth, height: scaled(HEIGHT)});
    });
    this._size.observe(this._box);
  }

  // `times`: seconds since the epoch; `lines`: {label, points}, as long as the times, null for a gap.
  set(times, lines) {
    const labels = lines.map((line) => line.label);
    this._data = [times, ...lines.map((line) => line.points)];
    setText(this._now, summary(lines, this._values));
    if (!this._plot || labels.join('\n') !== this._labels.join('\n')) {
      this._labels = labels;
      this.build();
      return;
    }
    this._plot.setData(this._data, false);
    this.zoom(this._board._range);
  }

  build() {
    if (!this._data) return;
    // Before the old one is taken out: an empty box has no width, and its observer tells only of changes.
    const options = this._options();
    if (this._plot) this._plot.destroy();
    replace(this._box);
    this._plot = new this._uPlot(options, this._data, this._box);
    this._mark();
    this.zoom(this._board._range);
  }

  // The legend has each line as it is drawn: its colour alone would tell nothing to some.
  _mark() {
    this._plot.root.querySelectorAll('.u-series:not(:first-child) .u-marker').forEach((marker, at) => marker.replaceWith(
      svg('svg', {class: 'u-marker line', width: 28, height: 10, viewBox: '0 0 28 10', 'aria-hidden': 'true', style: {stroke: `var(--c${(at % COLOURS) + 1})`}},
        svg('path', {d: 'M0 5H28', 'stroke-dasharray': DASHES[at % DASHES.length].join(' ') || null}))));
  }

  zoom(range) {
    if (!this._plot) return;
    const times = this._data[0];
    const all = {min: times[0], max: times[times.length - 1]};
    this._plot.batch(() => this._plot.setScale('x', range ? {min: range.from, max: range.to} : all));
  }

  close() {
    this._size.disconnect();
    if (this._plot) this._plot.destroy();
  }

  _options() {
    const ink = colour('--muted'), grid = {stroke: colour('--line'), width: 1};
    const axis = {stroke: ink, grid, ticks: grid, font: `${scaled(12)}px ${token('--sans')}`};
    const values = this._values;
    return {
      width: this._box.clientWidth || 320, height: scaled(HEIGHT),
      cursor: {
        drag: {x: true, y: false, setScale: false},
        sync: {key: 'hstore', filters: {pub: (type) => type === 'mousemove' || type === 'mouseleave'}},
        bind: {dblclick: () => () => { this._board.onZoom(null); return null; }},
      },
      scales: {x: {time: true}, y: {range: (_plot, _low, high) => [0, high > 0 ? high * 1.1 : 1]}},
      axes: [{...axis, space: scaled(70), size: scaled(50), values: clock}, {...axis, size: scaled(72), values: (_plot, ticks) => ticks.map(values), ...(this._isBytes ? {incrs: POWERS} : null)}],
      series: [
        {label: 'Time', value: (_plot, at) => (at === null ? '–' : new Date(at * 1000).toLocaleTimeString('en-GB'))},
        ...this._labels.map((label, at) => ({
          label, stroke: colour(`--c${(at % COLOURS) + 1}`), width: 1.6, dash: DASHES[at % DASHES.length],
          points: {show: false}, spanGaps: false, value: (_plot, n) => (n === null || n === undefined ? '–' : values(n)),
        })),
      ],
      hooks: {setSelect: [(plot) => {
        const {left, width} = plot.select;
        if (width < 5) return;
        const range = {from: plot.posToVal(left, 'x'), to: plot.posToVal(left + width, 'x')};
        plot.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
        this._board.onZoom(range);
      }]},
    };
  }
}

const pad = (n) => String(n).padStart(2, '0');

function clock(plot, ticks, _axis, _space, step) {
  let day = '';
  return ticks.map((tick) => {
    const at = new Date(tick * 1000);
    const today = `${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
    const spans = plot.scales.x.max - plot.scales.x.min > 86400;
    const text = spans && step >= 43200 ? today
      : `${pad(at.getHours())}:${pad(at.getMinutes())}${step < 60 ? `:${pad(at.getSeconds())}` : ''}`;
    const isNew = spans && step < 43200 && today !== day;
    day = today;
    return isNew ? `${text}\n${today}` : text;
  });
}

// What the lines say now and at most, in words: for those who see no lines, and without a pointer.
function summary(lines, values) {
  let now = null, most = null;
  for (const {points} of lines) {
    const last = points.findLast((n) => n !== null && n !== undefined);
    if (last !== undefined) now = Math.max(now ?? 0, last);
    for (const n of points) if (n !== null && n !== undefined && (most === null || n > most)) most = n;
  }
  if (now === null) return 'no points yet';
  return `${lines.length > 1 ? 'highest line ' : ''}now ${values(now)} · most ${values(most)}`;
}
