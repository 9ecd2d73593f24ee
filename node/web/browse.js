// What the pages of long lists have in common: pages by cursor, one after the other, and never all at once.

// A path with a query; what is undefined or null is left out, and '' except for flags of the API.
const FLAGS = new Set(['stale', 'recurse', 'raw']);

export function ask(path, query) {
  const parts = Object.entries(query)
    .filter(([name, value]) => value !== undefined && value !== null && (value !== '' || FLAGS.has(name)))
    .map(([name, value]) => (value === '' ? name : `${name}=${encodeURIComponent(value)}`));
  return parts.length ? `${path}?${parts.join('&')}` : path;
}

// The name of a file with the keys below a prefix.
export function fileName(prefix) {
  return `hstore-${prefix.replace(/[^A-Za-z0-9._-]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 80) || 'keys'}.json`;
}

export function put(api, path, body) {
  return api.send('PUT', path, body);
}

// The height of a list that leaves so much of the window to what is around it.
export function tall(around) { return Math.max(320, innerHeight - around); }

export function pause(ms, signal) {
  return new Promise((go) => {
    const timer = setTimeout(go, ms);
    signal?.addEventListener('abort', () => { clearTimeout(timer); go(); }, {once: true});
  });
}

const ENOUGH = 60;  // Rows that fill what is in sight: a page that brings fewer has the next one follow.

// A list by pages. `page(after, signal)` asks for one, `entries(page)` are its rows, `set(rows)` shows all
// that are known, `say({isBusy, error, isEmpty, rows, next})` tells how it stands.
export function pager({page, entries, set, say}) {
  let rows = [], next = null, busy = null, run = 0, hasFailed = false;

  async function fetchOn() {
    const mine = run;
    const attempt = busy = new AbortController();
    let found = 0;
    hasFailed = false;
    try {
      do {
        say({isBusy: true, rows, next});
        const got = await page(next || undefined, attempt.signal);
        if (mine !== run) return;
        const more = entries(got);
        found += more.length;
        next = got.next;
        rows = rows.concat(more);
        if (more.length || rows.length === 0) set(rows);
      } while (next !== null && found < ENOUGH);
      busy = null;
      say({isEmpty: !rows.length, rows, next});
    } catch (error) {
      if (mine !== run) return;
      busy = null;
      hasFailed = true;
      say({error, rows, next});
    }
  }

  function stop() {
    run += 1;
    if (busy) busy.abort();
    busy = null;
  }

  return {
    get rows() { return rows; },
    get next() { return next; },
    // Look anew from the first page.
    begin() { stop(); next = null; rows = []; return fetchOn(); },
    // Bring the next page, unless it is on its way or there is none.
    more() { if (!busy && (next !== null || hasFailed)) fetchOn(); },
    stop,
    // Ask again for what is in sight, from row `first` on. `cursor(row)`: that behind which the page
    // with the next row begins; `compare`: the order of cursors.
    async refresh(first, cursor, compare) {
      if (busy || hasFailed) return;
      const mine = run;
      const start = Math.min(first, rows.length);
      const before = start ? cursor(rows[start - 1]) : undefined;
      let got;
      try { got = await page(before); } catch { return; }
      if (mine !== run || busy) return;
      const fresh = entries(got);
      let after = rows.length;
      if (got.next !== null) {
        after = start;
        while (after < rows.length && compare(cursor(rows[after]), got.next) <= 0) after += 1;
      }
      // The next page goes on behind the last row: where that is a new one, so is the cursor.
      if (after === rows.length) next = got.next;
      rows = [...rows.slice(0, start), ...fresh, ...rows.slice(after)];
      set(rows);
      say({isEmpty: !rows.length, rows, next});
    },
  };
}
