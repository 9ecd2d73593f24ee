"""The log escapes what would steer the terminal of who reads it."""

from __future__ import annotations

import structlog

from hstore.node.config import logs


def test_what_others_sent_is_escaped_in_the_log(capsys) -> None:
    before = structlog.get_config()
    try:
        logs.configure("info")
        structlog.get_logger().info(
            "said \x1b[2J", name="n\x9b31m\u202e", texts=["\x1b]0;x\x07"], why="a\nb"
        )
    finally:
        structlog.configure(**before)
    (written,) = capsys.readouterr().err.splitlines()
    assert written.isprintable()
    assert "\\x1b[2J" in written
    assert "\\u202e" in written
