from __future__ import annotations

import msgspec
import pytest

from hstore.node.model import commands, decoded
from hstore.node.model.commands import Put
from hstore.node.model.services import Place, RegisterService, Service

REGISTRATION = RegisterService(Place(7), Service(0, "web-1", "web", ("v1",), "10.0.0.1", 80))


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "_kept", {})


def test_a_registration_that_was_decoded_to_be_checked_is_not_decoded_again_to_be_applied() -> None:
    data = commands.encode(REGISTRATION)
    early = decoded.decode_early(data)

    assert early == REGISTRATION
    assert decoded.decode(bytes(bytearray(data))) is early
    # Once: nothing is kept of what was applied.
    assert decoded.decode(data) is not early
    assert decoded.decode(data) == REGISTRATION


def test_what_a_leader_stamps_is_found_with_its_stamp() -> None:
    data = commands.encode(REGISTRATION)
    decoded.decode_early(data)
    stamped = decoded.stamped(data, 1_234)

    assert stamped == commands.stamped(data, 1_234)
    assert list(decoded._kept) == [stamped]
    assert decoded.decode(stamped) == msgspec.structs.replace(REGISTRATION, time_ms=1_234)


def test_of_keys_and_of_large_registrations_nothing_is_kept() -> None:
    large = msgspec.structs.replace(
        REGISTRATION,
        service=msgspec.structs.replace(REGISTRATION.service, meta=(("a", "b" * 1_024),)),
    )
    for command in (Put(b"k", b"v"), large):
        assert decoded.decode_early(commands.encode(command)) == command

    assert not decoded._kept


def test_what_is_never_applied_does_not_stay_for_ever() -> None:
    for number in range(5_000):
        decoded.decode_early(commands.encode(msgspec.structs.replace(REGISTRATION, time_ms=number)))

    assert 0 < len(decoded._kept) <= 1_024


def test_what_is_no_command_is_refused_as_ever() -> None:
    for decode in (decoded.decode, decoded.decode_early):
        with pytest.raises(msgspec.DecodeError):
            decode(commands.encode(REGISTRATION)[:-2])
