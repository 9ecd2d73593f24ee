"""Status 403: what a web page can make a browser send, and names that are not ours."""

from __future__ import annotations

import pytest

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130.0"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:8500", "192.0.2.7:1", "[::1]:8500", "[2001:db8::1]", "localhost",
        "LOCALHOST:8500", "localhost.", "n1", "n1:8500", "n1.", "10.0.0.1:8500",
        "leader.hstore.local:8500", "nodes.hstore.local", "voters.hstore.local",
        "followers.hstore.local", "learners.hstore.local", "n1.node.HStore.Local.",
        "n2.node.hstore.local:8501", "kv.example", "kv.example:80", "Kv.Example.",
        "n2", "db-1:8500", "my_host", "local",
        # An empty port is a port (RFC 3986, section 3.2.3).
        "127.0.0.1:", "[::1]:", "localhost:", "n1:", "leader.hstore.local:", "kv.example:",
    ],
)  # fmt: skip
async def test_hosts_that_are_ours_are_answered(client, host):
    assert (await client.request("GET", "/v1/health", Host=host)).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8500", "localhost.evil.example", "127.0.0.1.evil.example",
        "nothstore.local", "hstore.local.evil.example", "n1.evil.example", "sub.kv.example", "",
        ":8500", "localhost, evil.example", "localhost, evil", "[::1", "user@localhost",
        # Nothing has these names, so whoever answers for them could make them point here.
        "anything.hstore.local", "n3.node.hstore.local", "x.n1.node.hstore.local",
        "n1.hstore.local", "node.hstore.local", "_hstore._tcp.hstore.local", "hstore.local",
        # A top-level domain may have an address, too.
        "ai.", "ai.:8500", "ai.:", ":", "evil.example:", "hstore.local:", "localhost::", "[::1]::",
    ],
)  # fmt: skip
@pytest.mark.parametrize("target", ["/read/foo", "/delete/foo", "/v1/cluster", "/nothing"])
async def test_other_hosts_are_refused(client, backend, host, target):
    """Else a page whose own name is made to point here could read and write as same-origin."""
    backend.set(b"foo", b"")
    answer = await client.request("GET", target, Host=host)
    assert answer.status == 403
    assert b"foo" in backend.items
    assert answer.headers["x-hstore-index"] == "11"


async def test_a_name_is_ours_as_long_as_a_member_has_it(client, backend):
    async def status(host):
        return (await client.request("GET", "/v1/health", Host=host)).status

    assert await status("n2.node.hstore.local") == 200
    backend.members = ["n1", "web"]
    assert await status("n2.node.hstore.local") == 403
    assert await status("web.node.hstore.local") == 200
    backend.zone = "other.example"
    assert await status("web.node.hstore.local") == 403
    assert await status("web.node.other.example") == 200


async def test_many_hosts_take_no_room(client, server):
    guard = server._shared.guard
    for number in range(600):
        await client.request("GET", "/v1/health", Host=f"h{number}")
        await client.request("GET", "/v1/health", Host=f"n1.node.hstore.local:{number}")
    assert 0 < len(guard._always) <= 256
    assert 0 < len(guard._named) <= 256


async def test_the_host_of_an_absolute_target_overrules_the_header(client):
    good = await client.request("GET", "http://localhost:8500/v1/health", Host="evil.example")
    bad = await client.request("GET", "http://evil.example/v1/health", Host="localhost:8500")
    assert (good.status, bad.status) == (200, 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything"])
async def test_cross_site_requests_of_browsers_are_refused(client, backend, site):
    backend.set(b"foo", b"")
    for method, target, body in [
        ("GET", "/delete/foo", None),
        ("GET", "/read/foo", None),
        ("POST", "/write", {"key": "foo", "value": "x"}),
        ("PUT", "/v1/kv/foo", b""),
    ]:
        answer = await client.request(method, target, body, Sec_Fetch_Site=site)
        assert (target, answer.status) == (target, 403)
    assert not backend.calls


@pytest.mark.parametrize("site", ["none", "same-origin"])
async def test_a_person_at_a_browser_may_delete_by_typing(client, backend, site):
    backend.set(b"foo", b"")
    answer = await client.request("GET", "/delete/foo", Sec_Fetch_Site=site, User_Agent=BROWSER)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8500", 200),
        ("http://LOCALHOST:8500", 200),
        ("http://localhost", 403),
        ("http://localhost:3000", 403),
        ("http://127.0.0.1:8500", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
        ("file://localhost:8500", 403),
        ("http://localhost:8500, http://evil.example", 403),
    ],
)
async def test_an_origin_must_be_the_host_itself(client, origin, status):
    body = {"key": "foo", "value": "x"}
    assert (await client.request("POST", "/write", body, Origin=origin)).status == status


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://kv.example", "kv.example:80", 200),
        ("https://kv.example:443", "kv.example", 200),
        ("https://kv.example:80", "kv.example", 403),
    ],
)
async def test_the_default_port_of_an_origin_may_be_left_out(client, origin, host, status):
    answer = await client.request("GET", "/v1/health", Origin=origin, Host=host)
    assert answer.status == status


async def test_an_image_in_a_page_cannot_delete_where_browsers_name_no_site(client, backend):
    """To a host that is neither https nor loopback a browser sends no Sec-Fetch-Site at all."""
    backend.set(b"foo", b"")
    host = "10.0.0.1:8500"
    answer = await client.request("GET", "/delete/foo", Host=host, User_Agent=BROWSER)
    assert answer.status == 403
    assert b"foo" in backend.items
    answer = await client.request("GET", "/delete/foo", Host=host, User_Agent="curl/8.9")
    assert answer.status == 200


@pytest.mark.parametrize("header", ["Sec_Purpose", "Purpose"])
async def test_a_browser_cannot_delete_ahead_of_time(client, backend, header):
    backend.set(b"foo", b"")
    headers = {header: "prefetch;prerender", "Sec_Fetch_Site": "none"}
    assert (await client.request("GET", "/delete/foo", **headers)).status == 403
    assert b"foo" in backend.items


async def test_no_page_gets_leave_to_read_across_origins(client):
    answer = await client.request(
        "OPTIONS", "/v1/kv/foo", Access_Control_Request_Method="PUT", Host="localhost"
    )
    assert (answer.status, answer.body) == (200, b"")
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site", 403),
        ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Site: same-origin", 403),
        ("Origin: http://localhost\r\nOrigin: http://evil.example", 403),
        ("Host: localhost", 400),
        ("Last-Event-ID: 1\r\nLast-Event-ID: 2", 400),
        ("Idempotency-Key: a\r\nIdempotency-Key: b", 400),
    ],
)
async def test_a_header_twice_is_never_read_as_one_of_the_two(client, lines, status):
    """Another program on the way may have looked at the other one."""
    head = f"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n"
    await client.send(head.encode())
    assert (await client.response()).status == status
