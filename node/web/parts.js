// Parts that every page is made of: badges, tables with windowed rows, dialogs, notes, sparklines.

import {el, replace, setText, svg} from './dom.js';

// -- badges: a sign and a word, so that no information is in a colour alone ------------------------

const SIGNS = {ok: '●', warn: '▲', bad: '✕', off: '○', info: '◆'};

// kind: ok, warn, bad, off, info.
export function badge(kind, text, hint) {
  return el('span', {class: `badge ${kind}`, title: hint || null},
    el('span', {class: 'sign', 'aria-hidden': 'true'}, SIGNS[kind] || SIGNS.info), text);
}

const STATUS = {
  alive: 'ok', passing: 'ok', suspect: 'warn', warning: 'warn', joining: 'info', recovering: 'warn',
  failed: 'bad', critical: 'bad', stopped: 'off', maintenance: 'off', left: 'off',
};

// The badge of a health of members, or a status of checks.
export function health(status, hint) {
  return badge(STATUS[status] || 'info', status, hint);
}

// -- states that pages have in common --------------------------------------------------------------

// Nothing to show: what that means, and what to do.
export function empty(title, hint, ...more) {
  return el('div', {class: 'empty'}, el('h2', null, title), hint ? el('p', null, hint) : null, more);
}

// An error in the place of what could not be shown. `again`, if given, is tried by a button.
export function problem(error, again) {
  return el('div', {class: 'note bad', role: 'alert'},
    el('p', null, error.text || error.message),
    again ? el('button', {type: 'button', onclick: again}, 'Try again') : null);
}

export function note(kind, ...children) {
  return el('div', {class: `note ${kind}`}, children);
}

// A section with a heading, and what stands at the end of its line.
export function panel(title, {end, id, kind} = {}, ...children) {
  return el('section', {class: `panel ${kind || ''}`, id: id || null},
    el('header', null, el('h2', null, title), end ? el('div', {class: 'end'}, end) : null), children);
}

const TOAST_MS = 6000;
const TOASTS_MAX = 4;

// A short word about something that has happened. kind: ok, warn, bad, info.
export function toast(text, kind = 'info') {
  const box = document.getElementById('toasts');
  const one = el('div', {class: `toast ${kind}`}, badge(kind, text),
    el('button', {type: 'button', class: 'quiet', 'aria-label': 'Close', onclick: () => one.remove()}, '✕'));
  box.append(one);
  while (box.children.length > TOASTS_MAX) box.firstChild.remove();
  if (kind !== 'bad') setTimeout(() => one.remove(), TOAST_MS);
}

// Copy a text, and say so.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Only pages of https or of this machine may use the clipboard; any may copy what is selected.
    const area = el('textarea', {class: 'aside', 'aria-hidden': 'true', value: text});
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  toast('Copied', 'ok');
}

// -- dialogs ---------------------------------------------------------------------------------------

// Ask before something is changed. `effect`: what will happen, a text, a node or an array of them.
// `action`: the word on the button, such as "Remove n3". `type`: a text the user has to type first.
// Resolves to true or false.
export function confirm({title, effect, action, danger = false, type = ''}) {
  const fields = type ? [{name: 'typed', label: `Type ${type} to go on`, required: true,
    check: (text) => (text === type ? '' : `type exactly ${type}`)}] : [];
  return form({title, effect, action, danger, fields}).then(Boolean);
}

// Ask for values. `fields`: {name, label, value, kind, options, hint, required, check}; `kind`: text,
// area, select, checkbox, number; `check(text)` returns what is wrong, or ''. `run(values)`, if given, is
// awaited before the dialog closes; its error is shown in the dialog, which then stays. `signal` closes it.
// Resolves to the values by name, or to null where the user has gone back.
export function form({title, effect, action, danger = false, fields = [], run, signal}) {
  return new Promise((done) => {
    const inputs = fields.map((field) => ({field, ...input(field)}));
    const wrong = el('div', {class: 'note bad', role: 'alert', hidden: true});
    const go = el('button', {type: 'submit', class: danger ? 'danger' : 'primary'}, action);
    const back = el('button', {type: 'button', onclick: () => dialog.close()}, 'Back');
    const label = `dialog-${(number += 1)}`;
    const box = el('form', {method: 'dialog'},
      el('h2', {id: label}, title),
      effect ? el('div', {class: 'effect'}, wrap(effect)) : null,
      inputs.map(({line}) => line), wrong,
      el('div', {class: 'buttons'}, back, go));
    const dialog = el('dialog', {'aria-labelledby': label}, box);
    let values = null, isBusy = false;
    const say = (text) => { wrong.hidden = !text; setText(wrong, text); };
    box.addEventListener('submit', async (event) => {
      event.preventDefault();
      if (isBusy) return;
      const found = {};
      for (const {field, read, control} of inputs) {
        found[field.name] = read();
        const fault = (field.required && !found[field.name] ? 'this is needed' : '')
          || (field.check ? field.check(found[field.name]) : '');
        if (fault) { say(`${field.label}: ${fault}`); control.focus(); return; }
      }
      if (run) {
        isBusy = go.disabled = true;
        say('');
        try { await run(found); } catch (error) { say(error.text || error.message); return; }
        finally { isBusy = go.disabled = false; }
      }
      values = found;
      shut(dialog);
    });
    dialog.addEventListener('close', () => { dialog.remove(); done(values); });
    signal?.addEventListener('abort', () => dialog.close(), {once: true});
    document.body.append(dialog);
    dialog.showModal();
    // What cannot be undone is not what a hasty Enter does.
    if (inputs.length) inputs[0].control.focus();
    else (danger ? back : go).focus();
  });
}

// Close a dialog at once. Its event comes a turn later: what opens the next one meets no closed one till then.
export function shut(dialog) {
  dialog.close();
  dialog.remove();
}

let number = 0;

function wrap(effect) {
  return (Array.isArray(effect) ? effect : [effect])
    .map((one) => (one instanceof Node ? one : el('p', null, one)));
}

function input(field) {
  const id = `field-${(number += 1)}`;
  const common = {id, name: field.name, 'aria-describedby': field.hint ? `${id}-hint` : null};
  let control;
  if (field.kind === 'area') control = el('textarea', {...common, rows: field.rows || 8, spellcheck: 'false', value: field.value || ''});
  else if (field.kind === 'select') {
    control = el('select', common, field.options.map((one) => {
      const [value, text] = Array.isArray(one) ? one : [one, one];
      return el('option', {value, selected: value === field.value}, text);
    }));
  } else if (field.kind === 'checkbox') control = el('input', {...common, type: 'checkbox', checked: Boolean(field.value)});
  else control = el('input', {...common, type: field.kind || 'text', autocomplete: 'off', spellcheck: 'false', value: field.value ?? ''});
  const read = () => (field.kind === 'checkbox' ? control.checked : control.value);
  const hint = field.hint ? el('p', {class: 'hint', id: `${id}-hint`}, field.hint) : null;
  const line = el('div', {class: `field ${field.kind === 'checkbox' ? 'check' : ''}`},
    el('label', {for: id}, field.label), control, hint);
  return {line, control, read};
}

// -- tables ----------------------------------------------------------------------------------------

const WINDOWED_FROM = 120;
const BEYOND = 12;

// A table. `columns`: {title, render(row) → text or node, class}; `rowKey(row)`;
// `onOpen(row)`: a row can be opened, by the mouse or Enter; `caption` for those who do not see it.
// With `height` (pixels of the box) and `rowHeight`, only the rows in sight are in the document, however
// many there are; `onEnd()` is called when the last ones come into sight (pages by cursor).
// Returns {node, set(rows), rows}. `set` keeps the place that is scrolled to.
export function table({columns, rowKey, onOpen, caption, height, rowHeight = 40, onEnd}) {
  const heads = columns.map((column) => el('th', {scope: 'col', class: column.class || null}, column.title));
  const body = el('tbody');
  const inner = el('table', {class: height ? 'windowed' : null},
    caption ? el('caption', {class: 'aside'}, caption) : null,
    el('thead', null, el('tr', null, heads)), body);
  const node = el('div', {class: 'table-box', tabindex: '0', role: 'region', 'aria-label': caption || 'Table',
    style: height ? {maxHeight: `${height}px`} : null}, inner);
  const above = el('tr', {class: 'gap', 'aria-hidden': 'true'}, el('td', {colspan: columns.length}));
  const below = el('tr', {class: 'gap', 'aria-hidden': 'true'}, el('td', {colspan: columns.length}));
  const made = new Map();  // Rows in the document by key: {row, tr}.
  let rows = [], from = -1, to = -1, ended = -1;

  function line(row) {
    const key = rowKey(row);
    const known = made.get(key);
    if (known && known.row === row) return known.tr;
    const cells = columns.map((column, at) => el(at === 0 ? 'th' : 'td',
      {class: column.class || null, scope: at === 0 ? 'row' : null, 'data-title': column.title},
      column.render(row)));
    let tr;
    if (known) {
      // The row stays the one it is, and with it the focus on it.
      tr = known.tr;
      [...tr.children].forEach((cell, at) => {
        if (!cell.isEqualNode(cells[at]) && !cell.contains(document.activeElement)) cell.replaceWith(cells[at]);
      });
      known.row = row;
      return tr;
    }
    tr = el('tr', onOpen ? {class: 'opens', tabindex: '0',
      onclick: (event) => { if (!event.target.closest('button, a, input')) onOpen(made.get(key).row); },
      onkeydown: (event) => { if (event.key === 'Enter' && event.target === tr) onOpen(made.get(key).row); }} : null, cells);
    if (height) tr.style.height = `${rowHeight}px`;
    made.set(key, {row, tr});
    return tr;
  }

  function draw() {
    const isWindowed = height && rows.length > WINDOWED_FROM;
    let start = 0, end = rows.length;
    if (isWindowed) {
      start = Math.max(0, Math.floor(node.scrollTop / rowHeight) - BEYOND);
      end = Math.min(rows.length, start + Math.ceil(node.clientHeight / rowHeight) + 2 * BEYOND);
    }
    if (start !== from || end !== to) {
      from = start;
      to = end;
      const lines = rows.slice(start, end).map(line);
      if (isWindowed) {
        above.style.height = `${start * rowHeight}px`;
        below.style.height = `${(rows.length - end) * rowHeight}px`;
        lines.unshift(above);
        lines.push(below);
      }
      const isSame = lines.length === body.children.length && lines.every((tr, at) => tr === body.children[at]);
      if (!isSame) body.replaceChildren(...lines);
      const kept = new Set(rows.slice(start, end).map(rowKey));
      for (const key of made.keys()) if (!kept.has(key)) made.delete(key);
    }
    if (onEnd && end >= rows.length && ended !== rows.length && isNearEnd()) {
      ended = rows.length;
      onEnd();
    }
  }

  function isNearEnd() {
    return !height || node.scrollTop + node.clientHeight > node.scrollHeight - 2 * BEYOND * rowHeight;
  }

  let isDue = false;
  node.addEventListener('scroll', () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => { isDue = false; draw(); });
  }, {passive: true});

  return {
    node,
    get rows() { return rows; },
    set(next) {
      if (next.length < rows.length) ended = -1;
      rows = next;
      from = -1;
      draw();
    },
  };
}

// -- small charts ----------------------------------------------------------------------------------

// The course of a figure as a line; `label` says in words what it shows. Points that are null are gaps.
export function sparkline(values, {label, width = 120, height = 28} = {}) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const most = Math.max(...known, 0) || 1;
  const step = width / Math.max(values.length - 1, 1);
  let path = '', isOn = false;
  values.forEach((value, at) => {
    if (value === null || value === undefined) { isOn = false; return; }
    const y = height - 2 - (value / most) * (height - 4);
    path += `${isOn ? 'L' : 'M'}${(at * step).toFixed(1)} ${y.toFixed(1)}`;
    isOn = true;
  });
  return svg('svg', {class: 'spark', viewBox: `0 0 ${width} ${height}`, width, height, role: 'img', 'aria-label': label || 'Course'},
    svg('path', {d: path || 'M0 0'}));
}

// A large figure with its unit and its name; `kind` colours the sign before it.
export function figure(name, value, {unit, hint, kind} = {}) {
  return el('div', {class: `figure ${kind || ''}`},
    el('dt', null, name),
    el('dd', null, el('span', {class: String(value).length > 8 ? 'value word' : 'value'}, value), unit ? el('span', {class: 'unit'}, ` ${unit}`) : null),
    hint ? el('dd', {class: 'hint'}, hint) : null);
}

export {el, replace, setText};
