"""`python -m hstore.cli`: the same as `hstore`."""

from __future__ import annotations

from .main import main

main()
