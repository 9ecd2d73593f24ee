"""What makes two requests the same one: the `Idempotency-Key` header.

Owns the key's form, and the digest by which a request that is sent again is told from another
request under the same key. What the key does is `node/state/idempotency.py`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ...model import commands
from ...model.commands import DIGEST_BYTES, IDEMPOTENCY_KEY_BYTES_MAX, Keyed
from ...model.locks import CreateSession
from ...model.user_events import FireEvent
from .answers import HttpError

if TYPE_CHECKING:
    from .connection import Request

IDEMPOTENCY_KEY = b"idempotency-key"

Write = commands.Write
_NO_ID = bytes(16)


def keyed(request: Request, command: Write, known_by: Write) -> Keyed:
    """Return `command`, which `request` asks for, under the key that the request carries.

    Args:
        request: The request.
        command: What it asks for.
        known_by: What tells it from another request: mostly the command.

    Raises:
        HttpError: 400, the key is empty or too long.
    """
    key = request.headers[IDEMPOTENCY_KEY]
    if not 1 <= len(key) <= IDEMPOTENCY_KEY_BYTES_MAX:
        raise HttpError(
            400,
            f"the Idempotency-Key has {len(key)} bytes:"
            f" it must have 1 to {IDEMPOTENCY_KEY_BYTES_MAX}",
        )
    return Keyed(key, _digest(request, known_by), command)


def _digest(request: Request, command: Write) -> bytes:
    """Return the digest of all that decides the effect and the answer, and of nothing else.

    The command says what the path, the query and the body ask for, however they are spelled, and
    leaves out what does not matter, such as `?timeout=`. Method and interface decide the form of
    the answer: `PUT /v1/kv/a` and `POST /write` may be the same command.
    """
    interface = request.path.split(b"/", 2)[1]
    form = b"%b %b\n" % (request.method, interface)
    return blake2b(form + commands.encode(_without_id(command)), digest_size=DIGEST_BYTES).digest()


def _without_id(command: Write) -> Write:
    """Return a command without the id that was made for this request alone."""
    if isinstance(command, CreateSession):
        return CreateSession(replace(command.session, id=_NO_ID))
    if isinstance(command, FireEvent):
        return FireEvent(replace(command.event, id=_NO_ID))
    return command
