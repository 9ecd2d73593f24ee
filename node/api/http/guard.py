"""Keeps out what a web page makes a browser send without its user's will.

Owns the checks of `Host`, `Origin` and `Sec-Fetch-Site`. Which user may
do what is not decided here (`../gate.py`).

Theory of operation. A user's browser can reach nodes that a stranger's web page cannot, and the
page can use it: by `<img src="http://localhost:8500/delete/key">`, a form, a `no-cors` fetch, or a
name of its own that it makes point here (DNS rebinding). Three headers give it away:

- `Host` is what the browser believes it talks to. A name that a stranger can make point here is
  none of ours: it has a dot, and is neither a name of a node nor one that the settings allow. Of the
  zone only names with an address are ours: another server may answer for the rest.
- `Origin` comes with every cross-origin request that is not a plain GET or HEAD.
- `Sec-Fetch-Site` comes with every request, but only to hosts a browser holds trustworthy: https
  and loopback. So an image that points at `http://192.0.2.7:8500/delete/key` carries neither, and
  where a GET changes something a browser must prove that it was not sent by another site.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from hstore.dns.ip_literals import is_ip

from .answers import HttpError

if TYPE_CHECKING:
    from ..backend import Process
    from .connection import Request

CHECK_MARK = b"x-hstore-check"
"""The header of each request that a health check makes (`checks/requests.py`)."""

# `none` is a person's own doing: typed, or from a bookmark.
_OWN_SITE = frozenset({b"same-origin", b"none"})
_KEPT_MAX = 256
# A name without a dot is looked up in the domains of the user's own network only.
_NO_DOT = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_DEFAULT_PORTS = {b"http": b":80", b"https": b":443"}


class Guard:
    """Refuses requests that a web page of another site has made a browser send."""

    def __init__(self, process: Process, http_hosts: tuple[str, ...] = ()) -> None:
        self._process = process
        self._hosts = frozenset(host.lower().rstrip(".") for host in http_hosts)
        # `Host` values that are let in whatever the members are, so each is judged once.
        self._always: set[bytes] = set()
        # The names in those that are let in as long as a member has that name.
        self._named: dict[bytes, str] = {}

    def check(self, request: Request) -> None:
        """Refuse what comes from another site or is addressed to another host.

        Raises:
            HttpError: 403, saying what would be let in.
        """
        headers = request.headers
        host = headers.get(b"host")
        if (
            host is not None
            and host not in self._always
            and self._named.get(host) not in self._process.zone_hosts
        ):
            self._check_host(host)
        if b"sec-fetch-site" in headers and headers[b"sec-fetch-site"] not in _OWN_SITE:
            raise HttpError(403, "a browser sent this for a page of another site")
        if b"origin" in headers and not _is_same_origin(headers[b"origin"], host):
            raise HttpError(403, "a browser sent this for a page of another origin")

    def _check_host(self, header: bytes) -> None:
        """Judge a `Host` that is not known yet.

        Raises:
            HttpError: 403.
        """
        host = _host_of(header)
        if self._is_ours_always(header, host):
            if len(self._always) >= _KEPT_MAX:
                self._always.clear()
            self._always.add(header)
            return
        process = self._process
        if host in process.zone_hosts:
            if len(self._named) >= _KEPT_MAX:
                self._named.clear()
            self._named[header] = host
            return
        if host and host in {process.name.lower(), _host_of(process.address.encode())}:
            return
        raise HttpError(
            403,
            f"the Host header says {host[:100]!r}, which is not a name of this node: use its "
            "address or its name, or add the host to http.hosts",
            plain=f'Permission denied: Host "{host[:100]}"; add it to http.hosts',
        )

    def _is_ours_always(self, header: bytes, host: str) -> bool:
        if is_ip(host) or host == "localhost" or host in self._hosts:
            return True
        # With a final dot it is a top-level domain, whose owner may make it point here.
        is_final = header.partition(b":")[0].endswith(b".")
        return not is_final and _NO_DOT.fullmatch(host) is not None


def refuse_browser_write_by_get(request: Request) -> None:
    """Refuse a GET that changes something, unless no other site can have caused it.

    Raises:
        HttpError: 403.
    """
    headers = request.headers
    purpose = headers.get(b"sec-purpose", headers.get(b"purpose", b""))
    if b"prefetch" in purpose.lower():
        # Browsers load in advance what they expect to be typed.
        raise HttpError(403, "a browser sent this ahead of time")
    if b"sec-fetch-site" in headers or b"origin" in headers or not _is_browser(request):
        return
    raise HttpError(
        403, "a browser sent this and did not say for which site: use the method DELETE"
    )


def refuse_browser(request: Request) -> None:
    """Refuse whatever a browser sent, from any page.

    Raises:
        HttpError: 403.
    """
    headers = request.headers
    if b"origin" in headers or b"sec-fetch-site" in headers or _is_browser(request):
        raise HttpError(403, "this is not for browsers: use the hstore command")


def _is_browser(request: Request) -> bool:
    # Every browser has said so since 1998, and no page can make it say anything else in a request
    # that goes without a CORS preflight.
    return request.headers.get(b"user-agent", b"").startswith(b"Mozilla/")


def _host_of(header: bytes) -> str:
    """Return the host of `HOST[:[PORT]]`, lower case, without brackets and final dot.

    A port may be empty: RFC 3986, section 3.2.3, to which RFC 9110, section 7.2 refers.
    """
    text = header.decode("latin-1").lower()
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        is_whole = bracket and (not after or (after[0] == ":" and _is_port(after[1:])))
        return host if is_whole else ""
    host, separator, port = text.rpartition(":")
    if separator and _is_port(port):
        text = host
    return text.rstrip(".")


def _is_port(text: str) -> bool:
    return not text or text.isdecimal()


def _is_same_origin(origin: bytes, host: bytes | None) -> bool:
    scheme, separator, authority = origin.lower().partition(b"://")
    if host is None or not separator or scheme not in _DEFAULT_PORTS:
        return False
    port = _DEFAULT_PORTS[scheme]
    return authority.removesuffix(port) == host.lower().removesuffix(port)
