"""The files of the dashboard, read once when the process starts.

Owns their names below `/ui/`, their types and their versions. They are part of the package, so none is
read while a request waits for it, and a directory is no way to any other file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
    ".txt": b"text/plain; charset=utf-8",
}
_FOLDERS = ("", "pages", "vendor")
INDEX = b"index.html"


class File(NamedTuple):
    """A file.

    Attributes:
        body: Its bytes.
        content_type: For the header of that name.
        etag: Its version, with its quotes (RFC 9110 section 8.8.3).
    """

    body: bytes
    content_type: bytes
    etag: bytes


def load(root: Path = Path(__file__).parent) -> dict[bytes, File]:
    """Return all files by their path below `/ui/`; the empty path is the document.

    Raises:
        OSError: One cannot be read: the installation is damaged.
    """
    files = {}
    for folder in _FOLDERS:
        for path in sorted((root / folder).iterdir()):
            content_type = _TYPES.get(path.suffix)
            if content_type is not None:
                files[path.relative_to(root).as_posix().encode()] = _file(path, content_type)
    files[b""] = files[INDEX]
    return files


def _file(path: Path, content_type: bytes) -> File:
    body = path.read_bytes()
    version = hashlib.sha256(body).hexdigest()[:16]
    return File(body, content_type, b'"%b"' % version.encode())
