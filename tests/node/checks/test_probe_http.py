"""HTTP checks against targets that answer, are slow, endless, huge, or lie."""

from __future__ import annotations

import gc
import ipaddress
import socket
import ssl

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from hstore.node.checks import probe_http
from hstore.node.checks.connections import Tls
from hstore.node.checks.probe_http import BODY_BYTES_MAX, HEAD_BYTES_MAX, HttpProbe
from hstore.node.checks.requests import first_request, parse_url, redirected
from hstore.node.checks.targets import BadTarget, Targets
from hstore.node.checks.verdict import Verdict
from hstore.node.model.checks import RESULT_BYTES_MAX, CheckDefinition
from tests.node.checks.targets_in_memory import answering, free_port, reply, timed


def check(http: str, **more) -> CheckDefinition:
    return CheckDefinition(kind="http", http=http, interval_ns=10**9, **more)


async def run(http: str, *, deny=(), timeout_s: float = 5.0, **more) -> Verdict:
    probe = HttpProbe(Targets([ipaddress.ip_network(one) for one in deny]), Tls())
    return await timed(probe, check(http, **more), timeout_s)


@pytest.mark.parametrize(
    ("code", "reason", "status"),
    [
        (200, "OK", "passing"),
        (204, "No Content", "passing"),
        (299, "Fine", "passing"),
        (429, "Too Many Requests", "warning"),
        (304, "Not Modified", "critical"),
        (404, "Not Found", "critical"),
        (500, "Internal Server Error", "critical"),
        (600, "What", "critical"),
    ],
)
async def test_the_code_decides(code, reason, status):
    body = b"" if code in {204, 304} else b"hello"
    async with answering(reply(code, reason, body)) as target:
        verdict = await run(target.url)
    assert verdict == (status, f"HTTP GET {target.url}: {code} {reason} Output: {body.decode()}")


async def test_a_request_says_whose_it_is():
    async with answering(reply(200, "OK")) as target:
        await run(f"{target.url}health?x=1#part", headers=(("X-Own", ("a", "b")),))
        head = target.head.decode()
    assert head.split("\r\n") == [
        "GET /health?x=1 HTTP/1.1",
        f"Host: 127.0.0.1:{target.port}",
        "X-Own: a",
        "X-Own: b",
        "User-Agent: Consul Health Check",
        "Accept: text/plain, text/*, */*",
        "Connection: close",
        "X-Hstore-Check: 1",
    ]


async def test_headers_method_and_body_are_those_of_the_definition():
    headers = (("Host", ("web.example",)), ("user-agent", ("mine",)), ("ACCEPT", ("*/*",)))
    async with answering(reply(200, "OK")) as target:
        verdict = await run(target.url, method="PUT", body="ä", headers=headers)
        lines = target.head.decode().split("\r\n")
        assert target.requests[-1].endswith(b"\r\n\r\n" + "ä".encode())
    assert lines[:2] == ["PUT / HTTP/1.1", "Host: web.example"]
    assert "Content-Length: 2" in lines
    assert [line for line in lines if line.lower().startswith(("user-agent", "accept"))] == [
        "user-agent: mine",
        "ACCEPT: */*",
    ]
    assert verdict.output.startswith("HTTP PUT http://")


@pytest.mark.parametrize(
    "name",
    ["X-Hstore-Check", "x-hstore-check", "Content-Length", "Transfer-Encoding", "Connection"],
)
async def test_no_definition_sets_the_mark_or_the_length(name):
    async with answering(reply(200, "OK")) as target:
        await run(target.url, headers=((name, ("0",)),))
        lines = target.head.decode().lower().split("\r\n")
    assert [line for line in lines if line.startswith(f"{name.lower()}: 0")] == []
    assert lines[-1] == "x-hstore-check: 1"


@pytest.mark.parametrize(
    "more",
    [
        {"method": "GET / HTTP/1.1\r\n\r\n"},
        {"method": "GE T"},
        {"headers": (("A\r\nB", ("c",)),)},
        {"headers": (("A:", ("c",)),)},
        {"headers": (("A", ("c\r\n\r\nGET /",)),)},
        {"headers": (("A", ("c\nd",)),)},
        {"headers": (("Host", ("c\r\nd: e",)),)},
    ],
)
async def test_nothing_that_would_end_the_head_is_sent(more):
    async with answering(reply(200, "OK")) as target:
        verdict = await run(target.url, **more)
        assert target.requests == []
    assert verdict.status == "critical"


async def test_a_user_in_the_url_is_sent_and_its_password_is_not_shown():
    async with answering(reply(200, "OK")) as target:
        verdict = await run(f"http://ada:s%20ecret@127.0.0.1:{target.port}/")
        assert b"Authorization: Basic YWRhOnMgZWNyZXQ=" in target.head
        assert b"@" not in target.head
    assert verdict.output.startswith(f"HTTP GET http://ada:xxxxx@127.0.0.1:{target.port}/: 200")


@pytest.mark.parametrize(
    "url", ["http://ada:secret@h:0/", "http://ada:secret@[::1/", "x://a:secret@"]
)
async def test_no_output_shows_a_password(url):
    assert "secret" not in (await run(url)).output


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://127.0.0.1/", "not a URL of http or https: the scheme is 'ftp'"),
        ("127.0.0.1:80", "not a URL of http or https: the scheme is ''"),
        ("http://", "no host and port that can be asked"),
        ("http://127.0.0.1:0/", "no host and port that can be asked"),
        ("http://127.0.0.1:99999/", "not a URL: Port out of range"),
        ("http://a b/", "no host and port that can be asked"),
        ("http://[::1/", "not a URL"),
    ],
)
async def test_what_is_no_url_is_critical_and_says_so(url, why):
    verdict = await run(url)
    assert verdict.status == "critical"
    assert why in verdict.output


async def silent(_stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


# --- no answer --------------------------------------------------------------------------------


async def test_a_port_that_refuses_is_critical():
    url = f"http://127.0.0.1:{free_port()}/"
    assert await run(url) == ("critical", f"HTTP GET {url}: connection refused")


async def test_a_target_that_says_nothing_is_critical_when_the_time_is_over():
    async with answering(serve=silent) as target:
        verdict = await run(target.url, timeout_s=0.1)
    assert verdict == ("critical", f"HTTP GET {target.url}: no answer in time")


async def test_a_target_that_takes_no_connection_is_critical_when_the_time_is_over():
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        verdict = await run(f"http://127.0.0.1:{port}/", timeout_s=0.1)
        for one in waiting:
            one.close()
    assert verdict.status == "critical"
    assert verdict.output.endswith("no answer in time")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not an answer of HTTP"),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", "not an answer of HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x00", "not an answer of HTTP"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
            "it switches protocols",
        ),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000 + b"\r\n", "its head is larger than 16 KiB"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, "its head is larger than 16 KiB"),
        (b"HTTP/1.1 " + b"2" * 20_000, "not an answer of HTTP"),
        (b"HTTP/1.1 200 " + b"O" * 20_000, "its head is larger than 16 KiB"),
    ],
)
async def test_what_is_no_answer_is_critical_and_says_why(said, why):
    async with answering(said) as target:
        verdict = await run(target.url)
    assert verdict.status == "critical"
    assert why in verdict.output


# --- bodies -----------------------------------------------------------------------------------


async def test_an_interim_answer_is_passed_over():
    said = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    async with answering(said + reply(404, "Not Found", b"no")) as target:
        verdict = await run(target.url)
    assert verdict == ("critical", f"HTTP GET {target.url}: 404 Not Found Output: no")


async def test_an_answer_to_head_has_a_length_and_no_body():
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    async with answering(serve=lambda stream: stream.send_all(said)) as target:
        verdict = await run(target.url, method="HEAD")
    assert verdict == ("passing", f"HTTP HEAD {target.url}: 200 OK Output: ")


async def test_a_chunked_body_is_put_together():
    said = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    async with answering(serve=lambda stream: stream.send_all(said)) as target:
        verdict = await run(target.url)
    assert verdict.output.endswith("Output: abcde")


async def test_a_body_without_a_length_ends_with_the_connection():
    async with answering(b"HTTP/1.0 200 OK\r\n\r\nhello") as target:
        verdict = await run(target.url)
    assert verdict == ("passing", f"HTTP GET {target.url}: 200 OK Output: hello")


async def test_the_last_bytes_of_a_body_are_kept():
    body = b"x" * 5000 + b"the end"
    async with answering(reply(200, "OK", body)) as target:
        verdict = await run(target.url)
        short = await run(target.url, output_max=7)
    assert verdict.output.endswith("the end… (captured 4096 of 5007 bytes)")
    assert short.output.endswith("Output: the end… (captured 7 of 5007 bytes)")


async def test_of_a_large_body_no_more_is_read_than_64_kib():
    async with answering(reply(200, "OK", b"x" * 200_000)) as target:
        verdict = await run(target.url)
    assert verdict.output.endswith(f"… (captured 4096 of {BODY_BYTES_MAX} bytes)")


async def test_a_body_that_is_not_text_is_shown_replaced_and_bounded():
    async with answering(reply(200, "OK", b"\xff" * 60_000)) as target:
        verdict = await run(target.url)
    assert verdict.status == "passing"
    assert len(verdict.output.encode()) < RESULT_BYTES_MAX


async def test_a_body_that_is_shorter_than_it_says_does_not_change_the_code():
    async with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") as target:
        verdict = await run(target.url)
    assert verdict == ("passing", f"HTTP GET {target.url}: 200 OK Output: abc")


async def test_a_body_that_stops_does_not_change_the_code_when_the_time_is_over():
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"
    async with answering(serve=lambda stream: stream.send_all(said)) as target:
        verdict = await run(target.url, timeout_s=0.1)
    assert verdict == ("passing", f"HTTP GET {target.url}: 200 OK Output: abc")


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 10_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"extension" * 8000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"Trailer: x\r\n" * 8000),
    ],
)
async def test_an_endless_answer_is_read_to_a_bound_and_its_connection_is_reset(head, piece):
    sent = 0

    async def endless(stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.send_all(head)
        while True:
            await stream.send_all(piece)
            sent += len(piece)

    async with answering(serve=endless) as target:
        verdict = await run(target.url)
        with trio.fail_after(5):
            while not target.ended:
                await trio.lowlevel.checkpoint()
        assert target.ended == ["reset"]
    assert verdict.status == "passing"
    assert sent < 16 * 1024 * 1024, "the buffers of two sockets, and what was read"


async def test_no_more_of_an_answer_is_in_memory_than_is_read():
    answer = probe_http._Answer(has_body=True)

    class Endless:
        async def receive(self, bytes_max: int) -> bytes:
            await trio.lowlevel.checkpoint()
            first, self.first = self.first, b""
            return (first + b"x" * 60_000)[:bytes_max]

        first = b"HTTP/1.1 200 OK\r\n\r\n"

    await probe_http._receive(Endless(), answer)  # type: ignore[arg-type]
    assert answer.size <= BODY_BYTES_MAX
    assert sum(map(len, answer.body)) == answer.size


@given(st.binary(max_size=2000), st.lists(st.integers(1, 300), min_size=1, max_size=20))
def test_no_bytes_of_a_target_do_more_than_fail_its_check(said, cuts):
    said = b"HTTP/1.1 " + said
    answer = probe_http._Answer(has_body=True)
    pieces = []
    for cut in cuts:
        pieces.append(said[:cut])
        said = said[cut:]
    pieces.append(said)

    class Pieces:
        async def receive(self, bytes_max: int) -> bytes:
            await trio.lowlevel.checkpoint()
            while pieces:
                if piece := pieces.pop(0):
                    pieces.insert(0, piece[bytes_max:])
                    return bytes(piece[:bytes_max])
            return b""

    async def read() -> None:
        await probe_http._receive(Pieces(), answer)  # type: ignore[arg-type]

    try:
        trio.run(read)
    except BadTarget:
        assert not answer.is_head_whole
    else:
        assert 200 <= answer.code <= 999


async def test_a_run_leaves_nothing_to_the_collector_of_cycles():
    # A node runs that rarely: 200 runs a second would be in memory until then.
    def left() -> list[object]:
        kinds = (probe_http._Answer, OSError, BadTarget)
        return [one for one in gc.get_objects() if isinstance(one, kinds)]

    gc.collect()
    before = len(left())
    gc.disable()
    try:
        async with answering(reply(200, "OK", b"x")) as target:
            for url in (
                target.url,
                f"http://localhost:{target.port}/",
                f"http://127.0.0.1:{free_port()}/",
                f"http://localhost:{free_port()}/",
                "http://",
            ):
                await run(url)
        async with answering(b"no answer of HTTP") as target:
            await run(target.url)
        async with answering(serve=silent) as target:
            await run(target.url, timeout_s=0.05)
        assert len(left()) == before
    finally:
        gc.enable()


# --- redirects --------------------------------------------------------------------------------


def redirect(to: str, code: int = 302) -> bytes:
    return reply(code, "Found", b"", f"Location: {to}")


async def test_redirects_are_followed_and_each_request_carries_the_mark():
    answers = {
        b"/": redirect("/a"),
        b"/a": redirect("b?x=1", 307),
        b"/b?x=1": reply(200, "OK", b"there"),
    }
    async with answering(lambda request: answers[request.split(b" ")[1]]) as target:
        verdict = await run(target.url)
        assert len(target.requests) == 3
        assert all(b"\r\nX-Hstore-Check: 1\r\n" in request for request in target.requests)
    assert verdict == ("passing", f"HTTP GET {target.url}: 200 OK Output: there")


async def test_redirects_are_not_followed_where_the_definition_says_so():
    async with answering(redirect("/a")) as target:
        verdict = await run(target.url, no_redirects=True)
        assert len(target.requests) == 1
    assert verdict == ("critical", f"HTTP GET {target.url}: 302 Found Output: ")


async def test_ten_redirects_are_followed_and_no_more():
    def nth(request: bytes) -> bytes:
        number = int(request.split(b" ")[1][1:] or b"0")
        return reply(200, "OK") if number == last else redirect(f"/{number + 1}")

    last = 10
    async with answering(nth) as target:
        assert (await run(target.url)).status == "passing"
        last = -1
        verdict = await run(target.url)
        assert len(target.requests) == 22
    assert verdict == ("critical", f"HTTP GET {target.url}: stopped after 10 redirects")


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[", "//", "gopher://x/"])
async def test_a_redirect_that_leads_nowhere_is_critical(location):
    async with answering(redirect(location)) as target:
        verdict = await run(target.url)
    assert verdict.status == "critical"


async def test_a_redirect_without_a_place_is_what_its_code_says():
    async with answering(reply(302, "Found")) as target:
        verdict = await run(target.url)
    assert verdict == ("critical", f"HTTP GET {target.url}: 302 Found Output: ")


async def test_a_redirect_to_a_denied_address_is_critical_and_not_asked():
    async with (
        answering(reply(200, "OK"), host="127.0.0.2") as secret,
        answering(redirect(secret.url)) as target,
    ):
        assert (await run(target.url)).status == "passing"
        verdict = await run(target.url, deny=["127.0.0.2"])
        assert len(secret.requests) == 1
    why = "target 127.0.0.2 is in checks.deny"
    assert verdict == ("critical", f"HTTP GET {target.url}: {why}")


async def test_a_redirect_to_a_name_of_a_denied_address_is_critical(monkeypatch):
    def look_up(host, port, **_more):
        assert host == "metadata.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with answering(redirect("http://metadata.example/secret")) as target:
        verdict = await run(target.url, deny=["169.254.169.254"])
    why = "target 169.254.169.254 is in checks.deny"
    assert verdict == ("critical", f"HTTP GET {target.url}: {why}")


def test_what_a_redirect_makes_of_method_body_and_credentials():
    headers = (("Authorization", ("x",)), ("Cookie", ("y",)), ("Host", ("z",)), ("X-Own", ("v",)))
    first = first_request(check("http://a.example/p", method="POST", body="b", headers=headers))

    same = redirected(first, 307, "/q")
    assert (same.method, same.body, same.headers) == ("POST", b"b", headers)
    for code in (301, 302, 303):
        assert redirected(first, code, "/q").method == "GET"
        assert redirected(first, code, "/q").body == b""
    other = redirected(first, 308, "http://b.example/q")
    assert (other.method, other.headers) == ("POST", (("X-Own", ("v",)),))
    assert b"Host: b.example\r\n" in other.data
    put = first_request(check("http://a.example/p", method="PUT", body="b"))
    assert redirected(put, 302, "/q").method == "PUT"
    head = first_request(check("http://a.example/p", method="HEAD"))
    assert redirected(head, 303, "/q").method == "HEAD"


@given(st.text(max_size=300), st.sampled_from([301, 307]))
def test_no_location_ends_the_head_of_a_request_before_its_mark(location, code):
    first = first_request(check("http://a.example/"))
    try:
        data = redirected(first, code, location).data
    except BadTarget:
        return
    assert data.count(b"\r\n\r\n") == 1
    assert data.endswith(b"\r\nX-Hstore-Check: 1\r\n\r\n")
    assert b"\r" not in data.replace(b"\r\n", b"")
    assert b"\n" not in data.replace(b"\r\n", b"")


@given(st.text(max_size=300))
def test_no_url_ends_the_line_of_a_request(text):
    try:
        url = parse_url("http://" + text)
    except BadTarget:
        return
    assert not set(f"{url.target}{url.authority}{url.host}") & set(" \r\n\t\x00")
    assert 1 <= url.port <= 65535


async def test_large_heads_of_ours_are_refused():
    verdict = await run("http://127.0.0.1:1/" + "x" * 40_000)
    assert verdict.status == "critical"
    assert "larger than 32768 bytes" in verdict.output
    assert len(verdict.output.encode()) < RESULT_BYTES_MAX
    assert HEAD_BYTES_MAX == 16 * 1024


async def test_certificates_are_read_once_however_many_checks_begin_together(monkeypatch) -> None:
    read = []

    def slow() -> ssl.SSLContext:
        read.append(1)
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr("hstore.node.checks.connections.ssl.create_default_context", slow)
    tls, contexts = Tls(), []

    async def ask() -> None:
        contexts.append(await tls._context(is_verified=True))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    assert len(read) == 1
    assert len(contexts) == 50
    assert len(set(map(id, contexts))) == 1
