"""A setting from the first source that has it: flag, `HSTORE_*` variable, TOML file, default.

Owns the names of variables, the reading of the file, and the errors for unknown keys and bad values.
Which settings there are, and what they allow, is in `settings.py`.
"""

from __future__ import annotations

import difflib
import errno
import re
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ..errors import ConfigError, Refused
from ..model import values
from ..model.values import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

VARIABLE_PREFIX = "HSTORE_"

# Variables of other parts of the program, which are no settings of a node.
_OTHER_VARIABLES = ("HSTORE_CONFIG", "HSTORE_DEBUG", "HSTORE_HOST")

# Kubernetes and Docker links set these for services called "hstore" or "hstore-SOMETHING"; they are
# no settings. A variable that ends in PORT counts only with the value that those give it.
_FOREIGN_VARIABLE = re.compile(
    r"HSTORE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)"
)
# What `hstore lock` tells its command, which may be hstore: no settings, either.
_OF_A_LOCK = frozenset({"HSTORE_LOCK_KEY", "HSTORE_LOCK_INDEX", "HSTORE_LOCK_SESSION"})
_FOREIGN_PORT = re.compile(r"(tcp|udp|sctp)://.*")


_LASTING = frozenset({
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES,
    errno.EPERM,
})  # fmt: skip
"""Errors of a configuration file that a restart does not mend."""


class Sources:
    """The values that a user has set, taken one setting at a time.

    `refuse_unknown` refuses every key and variable that was not taken, so the calls of `take` are
    the only list of settings.

    Args:
        flags: Values from the command line by key; None counts as not given.
        env: The process's environment.

    Attributes:
        given: The keys that were found in some source.

    Raises:
        ConfigError: The file cannot be read, or is not valid TOML.
    """

    def __init__(self, flags: Mapping[str, object], env: Mapping[str, str]) -> None:
        self._flags = flags
        self._env = env
        self._path = self._config_path()
        self._file = _flat(_read_toml(self._path)) if self._path else {}
        self._known: list[str] = []
        self.given: set[str] = set()

    def take(self, key: str, parse: Callable[[object], T], default: T) -> T:
        """Return the value of `key` from the first source that has it.

        Raises:
            ConfigError: The value is bad.
            Refused: It is a host name that does not resolve now.
        """
        self._known.append(key)
        if self._flags.get(key) is not None:
            value, where = self._flags[key], "on the command line"
        elif self._env.get(_variable(key)):  # empty counts as not set, as with XDG_DATA_HOME
            value, where = self._env[_variable(key)], f"in {_variable(key)}"
        elif key in self._file:
            value, where = self._file[key], f"in {self._path}"
        else:
            return default
        self.given.add(key)
        try:
            return parse(value)
        except values.UnknownHostError as error:
            raise Refused(
                f"{key}: {value!r} {where} cannot be used now; it takes {error}"
            ) from None
        except ValueError as error:
            raise ConfigError(
                f"{key}: {value!r} {where} is not allowed; allowed: {error}"
            ) from None

    def named_host(self) -> tuple[Address, ...]:
        """Return the address in `HSTORE_HOST`; nothing if it holds a node's name.

        Raises:
            ConfigError: It holds neither.
        """
        host = host_variable(self._env)
        return (host,) if isinstance(host, Address) else ()

    def refuse_unknown(self) -> None:
        """Refuse the keys of the file and the variables that were not taken.

        Raises:
            ConfigError: There is one.
        """
        for key in self._file:
            if key not in self._known:
                raise ConfigError(
                    f"{key}: unknown key in {self._path} (its value is {self._file[key]!r}); "
                    + _allowed(key, self._known)
                )
        for name, meant in self.unknown_variables(self._env).items():
            raise ConfigError(
                f"{name}: unknown variable; {_perhaps(meant)}"
                f"allowed: {', '.join(sorted(self._variables()))}"
            )

    def unknown_variables(self, env: Mapping[str, str]) -> dict[str, str]:
        """Return the `HSTORE_*` that are not among those taken, each with what was perhaps meant.

        Never their values: one may be a secret for another program, or for a later version.
        """
        known = self._variables()
        return {
            name: _close(name, known)
            for name in sorted(env)
            if name.startswith(VARIABLE_PREFIX)
            and name not in known
            and not _is_foreign(name, env[name])
        }

    def _variables(self) -> list[str]:
        return [*map(_variable, self._known), *_OTHER_VARIABLES]

    def _config_path(self) -> Path | None:
        value, where = self._flags.get("config"), "on the command line"
        if not value:
            value, where = self._env.get("HSTORE_CONFIG"), "in HSTORE_CONFIG"
        try:
            return values.path(value) if value else None
        except ValueError as error:
            raise ConfigError(
                f"config: {value!r} {where} is not allowed; allowed: {error}"
            ) from None


def host_variable(env: Mapping[str, str]) -> str | Address | None:
    """Return what `HSTORE_HOST` holds: a node's name, or an address; None: it is not set.

    Raises:
        ConfigError: It is neither.
    """
    value = env.get("HSTORE_HOST", "").strip()
    if not value or values.is_name(value):
        return value or None
    try:
        return values.split_address(value)
    except ValueError as error:
        raise ConfigError(
            f"HSTORE_HOST: {value!r} is not allowed; allowed: a node's name, {error}; "
            "HSTORE_DISCOVERY_HOSTS takes several"
        ) from None


def _is_foreign(name: str, value: str) -> bool:
    is_port = name.endswith("_PORT") and _FOREIGN_PORT.fullmatch(value)
    return bool(is_port or name in _OF_A_LOCK or _FOREIGN_VARIABLE.fullmatch(name))


def _variable(key: str) -> str:
    if key == "discovery.dns":
        return "HSTORE_DNS"  # contract, section 6
    return VARIABLE_PREFIX + key.removeprefix("cluster.").replace(".", "_").upper()


def _allowed(key: str, known: list[str]) -> str:
    return f"{_perhaps(_close(key, known))}allowed: {', '.join(sorted(known))}"


def _close(name: str, known: list[str]) -> str:
    """Return which of the known names is like this one; empty: none. The prefix is in them all."""
    by_rest = {one.removeprefix(VARIABLE_PREFIX): one for one in known}
    found = difflib.get_close_matches(name.removeprefix(VARIABLE_PREFIX), by_rest, n=1)
    return by_rest[found[0]] if found else ""


def _perhaps(meant: str) -> str:
    return f"perhaps {meant} was meant; " if meant else ""


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return msgspec.toml.decode(path.read_bytes(), type=dict[str, object])
    except OSError as error:
        # A disk or a network file system that fails now may work when the node is started again.
        kind = ConfigError if error.errno in _LASTING else Refused
        raise kind(f"config: {path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"config: {path} is not valid TOML: {error}") from None


def _flat(table: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return a table's values by dotted key. An empty table has none, so its name may be anything."""
    flat: dict[str, object] = {}
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            flat.update(_flat(value, f"{key}."))
        else:
            flat[key] = value
    return flat
