"""The dashboard in a real browser, before a cluster of real nodes.

`browser.py` finds Chromium and opens pages that remember what went wrong in them; `test_files.py` needs
neither. `closed_door.py` stands before a node as one with access tokens will be, and `large.py`
makes up lists as long as they may be.
"""
