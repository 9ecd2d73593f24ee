"""The requests of HTTP checks, as bytes: from a definition, or from a redirect.

Owns what may be in a request, so that a check is no way around a node's doors (contract of services,
section 4.2): each one carries `X-Hstore-Check`, and nothing that a definition or a target says can
remove it, or end the head before it.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

from ..model.checks import CheckDefinition
from .targets import BadTarget

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:-]+", re.ASCII)
_PASSWORD = re.compile(r"(//[^/?#:@]*):[^/?#@]*@")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\U0010ffff]*")

MARK = "X-Hstore-Check"
"""Each request of a check carries it; one that does never counts as from this machine
(`api/http/guard.py`)."""

_NOT_GIVEN = frozenset({"connection", "content-length", "transfer-encoding", MARK.lower()})
"""What a definition cannot set: how long the request is, and whose it is. (Go's client ignores the
lengths, too: `net/http`, `reqWriteExcludeHeader`.)"""

_OF_THE_HOST = frozenset({"authorization", "cookie", "cookie2", "host", "www-authenticate"})
"""What a redirect to another host is not sent (Go: `net/http`, `shouldCopyHeaderOnRedirect`)."""

_HEAD_BYTES_MAX = 32 * 1024
"""A head of ours: definitions have at most 8 KiB of headers, redirects are as long as their answer's
head."""

_HOST_CHARS_MAX = 255
"""No name in DNS is longer (RFC 1035 section 2.3.4)."""

_KEPT_CHARS_MAX = 512
"""Of URL and body of a check whose request is made once, and kept: some 6 MiB for 4,096 of them."""

_PORTS = {"http": 80, "https": 443}


class Url(NamedTuple):
    """Where a request goes.

    Attributes:
        scheme: `http` or `https`.
        host: Without brackets.
        port: Also where it is the scheme's own.
        authority: Host, and port where the URL has one: the `Host` header.
        user: `USER:PASSWORD`, percent-decoded; empty: there is none.
        target: Path and query.
        text: The whole of it.
        shown: As it is shown in an output: without the password.
    """

    scheme: str
    host: str
    port: int
    authority: str
    user: bytes
    target: str
    text: str
    shown: str


class HttpRequest(NamedTuple):
    """One request of a check.

    Attributes:
        url: Where it goes.
        method: Such as `GET`.
        data: All its bytes.
        headers: Those of the definition that it carries; names as given.
        body: Of it.
    """

    url: Url
    method: str
    data: bytes
    headers: tuple[tuple[str, tuple[str, ...]], ...]
    body: bytes


def without_password(text: str) -> str:
    """Return a URL, or what shall be one, as it is shown."""
    return _PASSWORD.sub(r"\1:xxxxx@", text)


def parse_url(text: str) -> Url:
    """Take a URL apart.

    Raises:
        BadTarget: It is none that a check can ask.
    """
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise BadTarget(f"not a URL: {error}") from None
    if parts.scheme not in _PORTS:
        raise BadTarget(f"not a URL of http or https: the scheme is {parts.scheme[:20]!r}")
    user, _, shown = parts.netloc.rpartition("@")
    host = (parts.hostname or "").replace("%25", "%")  # of an IPv6 zone (RFC 6874)
    if len(host) > _HOST_CHARS_MAX:
        raise BadTarget(f"not a host name: {host[:255]!r}")
    if not host.isascii():
        try:
            host = host.encode("idna").decode()
        except UnicodeError:
            raise BadTarget(f"not a host name: {host[:255]!r}") from None
    if not host or _HOST.fullmatch(host) is None or port == 0:
        raise BadTarget(f"no host and port that can be asked: {shown[:255]!r}")
    authority = f"[{host}]" if ":" in host else host
    if port is not None:
        authority = f"{authority}:{port}"
    # What is written is kept, but for what no request line may hold (RFC 9112 section 3.2).
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~[]|\\^`{}\"<>")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=-._~?[]|\\^`{}\"<>")
    return Url(
        parts.scheme,
        host,
        port or _PORTS[parts.scheme],
        authority,
        unquote_to_bytes(user),
        target,
        text,
        without_password(text) if user else text,
    )


def first_request(definition: CheckDefinition) -> HttpRequest:
    """Return the request of a check.

    Raises:
        BadTarget: There is none that could be sent.
    """
    is_small = len(definition.http) + len(definition.body) <= _KEPT_CHARS_MAX
    if is_small and not definition.headers:
        return _kept(definition)
    return _first(definition)


def _first(definition: CheckDefinition) -> HttpRequest:
    method = definition.method or "GET"
    if _TOKEN.fullmatch(method) is None:
        raise BadTarget(f"not a method: {method[:50]!r}")
    url = parse_url(definition.http)
    return _request(url, method, definition.headers, definition.body.encode("utf-8", "replace"))


_kept = lru_cache(maxsize=4096)(_first)


def redirected(before: HttpRequest, code: int, location: str) -> HttpRequest:
    """Return the request that follows a redirect.

    Raises:
        BadTarget: It leads nowhere that could be asked.
    """
    try:
        url = parse_url(urljoin(before.url.text, location))
    except ValueError as error:
        raise BadTarget(f"redirected to what is no URL: {error}") from None
    method, body, headers = before.method, before.body, before.headers
    if code == 303 or (code in {301, 302} and method == "POST"):
        # RFC 9110 section 15.4: what browsers have always done. HEAD stays what it is.
        method, body = ("HEAD" if method == "HEAD" else "GET"), b""
    if (url.host, url.port) != (before.url.host, before.url.port):
        headers = tuple(one for one in headers if one[0].lower() not in _OF_THE_HOST)
    return _request(url, method, headers, body)


def _request(
    url: Url, method: str, headers: tuple[tuple[str, tuple[str, ...]], ...], body: bytes
) -> HttpRequest:
    lines: list[str] = []
    host, given = url.authority, set()
    for name, values in headers:
        lower = name.lower()
        if lower in _NOT_GIVEN or not values:
            continue
        if _TOKEN.fullmatch(name) is None or not all(map(_VALUE.fullmatch, values)):
            raise BadTarget(f"not a header: {name[:50]!r}")
        given.add(lower)
        if lower == "host":
            host = values[0]
        else:
            lines += [f"{name}: {value}" for value in values]
    if "user-agent" not in given:
        lines.append("User-Agent: Consul Health Check")
    if "accept" not in given:
        lines.append("Accept: text/plain, text/*, */*")
    if url.user and "authorization" not in given:
        lines.append(f"Authorization: Basic {base64.b64encode(url.user).decode()}")
    if body or method in {"POST", "PUT", "PATCH"}:
        lines.append(f"Content-Length: {len(body)}")
    start = [f"{method} {url.target} HTTP/1.1", f"Host: {host}"]
    end = ["Connection: close", f"{MARK}: 1", "", ""]
    head = "\r\n".join([*start, *lines, *end]).encode("utf-8", "replace")
    if len(head) > _HEAD_BYTES_MAX:
        raise BadTarget(f"the request's head is larger than {_HEAD_BYTES_MAX} bytes")
    return HttpRequest(url, method, head + body, headers, body)
