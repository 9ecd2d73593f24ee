"""Lists as long as hstore allows, made up inside a page: its requests for pages of them are answered there.

Owns the made-up pages, which look as those of a node do, and how a list is scrolled to its end while the
longest time is measured that the page is busy with one thing.
"""

from __future__ import annotations

from playwright.sync_api import BrowserContext, Page

_MADE_UP = """
(() => {
const [path, size] = %s;
const real = window.fetch;
const digits = (n) => String(n).padStart(7, '0');
const rows = {
  '/v1/ui/keys': ['entries', (n) => ({key: `many/${digits(n)}`, bytes: n, revision: n, locked: false})],
  '/v1/ui/instances': ['instances', (n) => ({at: digits(n), node: `n${n %% 9}`, is_member: true,
    id: `i${digits(n)}`, address: '10.0.0.1', port: 80, tags: ['blue'], checks: 1, status: 'passing', maintenance: ''})],
  '/v1/ui/sessions': ['sessions', (n) => ({at: digits(n), id: `s${digits(n)}`, name: 'job', node: 'n1',
    ttl_s: 60, ttl_left_s: 42, behavior: 'release', keys: ['lock/a'], held: 1})],
};
window.given = 0;
window.fetch = (asked, ...rest) => {
  const url = new URL(asked, location);
  if (url.pathname !== path) return real(asked, ...rest);
  const [name, row] = rows[path], query = url.searchParams;
  const from = query.has('after') ? Number(query.get('after').match(/[0-9]+$/)[0]) + 1 : 0;
  const to = Math.min(size, from + Number(query.get('limit') || 100));
  const found = Array.from({length: to - from}, (_, at) => row(from + at));
  window.given = Math.max(window.given, to);
  return Promise.resolve(new Response(
    JSON.stringify({[name]: found, next: to < size ? digits(to - 1) : null, total: size, index: 1}),
    {headers: {'content-type': 'application/json'}}));
};
})();
"""

_SCROLL = """
async (size) => {
  while (!window.given) await new Promise((go) => setTimeout(go, 20));
  let longest = 0, last = performance.now(), isOver = false;
  const beat = () => {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (!isOver) setTimeout(beat, 0);
  };
  beat();
  const box = document.querySelector('.table-box');
  while (window.given < size) {
    box.scrollTop = 1e9;
    await new Promise(requestAnimationFrame);
  }
  box.scrollTop = 1e9;
  await new Promise((go) => setTimeout(go, 100));
  isOver = true;
  return longest;
}
"""


def make_up(context: BrowserContext, path: str, size: int) -> None:
    """Have the pages of a profile get `size` entries from a path of the lists, by pages as a node gives them."""
    context.add_init_script(_MADE_UP % [path, size])


def scroll_through(page: Page, size: int) -> float:
    """Scroll the list to its end; return the milliseconds that the page was busy longest meanwhile."""
    return float(page.evaluate(_SCROLL, size))
