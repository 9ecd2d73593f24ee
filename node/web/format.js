// Numbers with their units. A figure that is not known is a dash, never 0.

const NONE = '–';
const grouped = new Intl.NumberFormat('en', {maximumFractionDigits: 0});

export function count(n) {
  return n === null || n === undefined ? NONE : grouped.format(n);
}

// "1 member", "3 members".
export function plural(n, one, many = one + 's') {
  return `${count(n)} ${n === 1 ? one : many}`;
}

// Three digits at most: 0.123, 4.56, 78.9, 1,234.
export function short(n) {
  if (n === null || n === undefined) return NONE;
  const size = Math.abs(n);
  if (size === 0) return '0';
  if (size >= 100) return grouped.format(n);
  return n.toFixed(size >= 10 ? 1 : size >= 0.1 ? 2 : 3);
}

export function bytes(n) {
  if (n === null || n === undefined) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let at = 0;
  while (Math.abs(n) >= 1024 && at < units.length - 1) { n /= 1024; at += 1; }
  return `${at === 0 ? n : n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[at]}`;
}

export function ms(n) {
  if (n === null || n === undefined) return NONE;
  if (n >= 10000) return duration(n / 1000);
  if (n >= 1000) return `${(n / 1000).toFixed(1)} s`;
  return `${n >= 10 ? Math.round(n) : short(n)} ms`;
}

// Seconds as people say them: 42 s, 5 min 3 s, 2 h 10 min, 3 d 4 h.
export function duration(s) {
  if (s === null || s === undefined) return NONE;
  s = Math.max(0, Math.floor(s));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// The milliseconds of a setting such as 500ms, 1.5s or 1m; null: it is none.
export function fromDuration(text) {
  const [, n, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text) || [];
  return n === undefined ? null : Number(n) * {ms: 1, s: 1000, m: 60000, h: 3600000}[unit];
}

const pad = (n) => String(n).padStart(2, '0');

// The time of day, with the day where it is not today's.
export function time(at_ms) {
  const at = new Date(at_ms), now = new Date();
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  if (at.toDateString() === now.toDateString()) return clock;
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())} ${clock}`;
}
