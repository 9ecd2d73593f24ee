"""The dashboard in a real browser, before a cluster of real nodes.

`browser.py` finds Chromium and opens pages that remember what went wrong in them; `test_files.py` needs
neither.
"""
