#!/bin/sh
# After `scrollIntoView` Chromium's key Tab begins at the element that was scrolled to.
#
# Software: Debian's chromium 150.0.7871.100, driven by playwright 1.49.0.
#
# A page scrolls its bar of links so that the one of this page is seen, as it opens. Nothing has the focus,
# nothing was clicked, and nothing had to move; the first Tab would go to the first link of the document, the
# one that skips the bar. But the call has moved the place where the focus goes on from: Tab goes to the link
# behind the one that was scrolled to, so whoever uses the keyboard never meets what is before it. Setting
# `scrollLeft` to the same effect leaves that place alone.
# Seen: Tab goes to "skip" at first, to "third" after scrollIntoView of "second", to "skip" after scrollLeft.
# The cure: scroll by `scrollLeft` or `scrollTop` where the focus is not meant to follow.
set -eu
version=$(dpkg-query -W -f '${Version}' chromium)
echo "Debian's chromium $version"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet playwright==1.49.0
"$dir/venv/bin/python" - <<'EOF'
import sys

from playwright.sync_api import sync_playwright

PAGE = """<!doctype html><title>links</title><a id=skip href=#main>skip</a>
<nav style="width: 90px; overflow: auto; white-space: nowrap">
<a id=first href=#1>the first</a> <a id=second href=#2>the second</a> <a id=third href=#3>the third</a>
</nav>"""
BY = {
    "nothing": "0",
    "scrollIntoView": "document.getElementById('second').scrollIntoView({block: 'nearest'})",
    "scrollLeft": "document.querySelector('nav').scrollLeft = 40",
}

seen = {}
with sync_playwright() as playwright:
    options = ["--headless", "--no-sandbox", "--disable-gpu"]
    browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=options)
    for name, script in BY.items():
        page = browser.new_page()
        page.set_content(PAGE)
        page.evaluate(script)
        page.keyboard.press("Tab")
        seen[name] = page.evaluate("document.activeElement.id")
    print(f"chromium {browser.version}")
    browser.close()
for name, where in seen.items():
    print(f"after {name}, Tab goes to {where!r}")
is_so = seen == {"nothing": "skip", "scrollIntoView": "third", "scrollLeft": "skip"}
sys.exit(0 if is_so else "this has changed")
EOF
