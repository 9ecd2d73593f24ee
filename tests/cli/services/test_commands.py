"""services, checks, register, deregister, maint: what is sent, what is printed, what a mistake says."""

from __future__ import annotations

import io
import json
import re
import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import httpx
import pytest
from rich.console import Console

from hstore.cli import main as cli
from hstore.cli.client.errors import NotFound, Unreachable
from hstore.cli.services import reading, registering
from hstore.cli.services.registering import Said, body_of
from hstore.cli.shell.commands import Context, Output
from hstore.cli.shell.connection import Connection
from hstore.cli.shell.lines import is_write
from hstore.cli.shell.shell import run_shell
from hstore.cli.show import screen
from hstore.cli.show.services import Lost, Row, Sight, table, watch
from hstore.node.errors import ConfigError, NotApplied, Refused
from hstore.node.filter.fields import Object, Plain
from hstore.node.filter.predicate import predicate

A, B = "127.0.0.1:8500", "127.0.0.1:8501"
SELF = {"Config": {"NodeName": "n1"}}
MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)


def check(check_id="service:web-1", status="passing", **more):
    return {
        "Node": "n1", "CheckID": check_id, "Name": f"name of {check_id}", "Status": status, "Output": "",
        "ServiceID": "web-1", "ServiceName": "web", "Type": "ttl", "ModifyIndex": 7, **more,
    }  # fmt: skip


def instance(service_id="web-1", node="n1", *checks, **service):
    return {
        "Node": {"Node": node, "Address": "10.0.0.1", "Meta": {}},
        "Service": {"ID": service_id, "Service": "web", "Tags": ["v1"], "Address": "", "Port": 80, **service},
        "Checks": list(checks),
    }  # fmt: skip


def said(content, index=7):
    return httpx.Response(
        200, content=json.dumps(content).encode(), headers={"X-Consul-Index": str(index)}
    )


@pytest.fixture
def finder(cluster, make, make_finder):
    cluster.set(A, "/v1/cluster", make.info())
    cluster.set(A, "/v1/agent/self", SELF)
    return make_finder([A])


@pytest.fixture
def sent(cluster):
    """Take every change, and keep the bodies."""
    bodies = []

    def take(request):
        bodies.append((request.method, request.url.raw_path.decode(), request.content))
        return httpx.Response(200)

    for path in (
        "service/register", "service/deregister/web-1", "maintenance", "service/maintenance/web-1",
    ):  # fmt: skip
        cluster.set(A, f"/v1/agent/{path}", take)
    return bodies


@pytest.fixture
def say(finder, capfd):
    """Run one command at a node, and return what it printed."""

    def run(*words):
        assert run_shell(finder, A, cli.cli, words) == 0
        return capfd.readouterr().out

    return run


@pytest.fixture
def fails(finder):
    """Run one command at a node, and return its error."""

    def run(*words, error=(Refused, ConfigError, NotFound, Unreachable), host=A):
        with pytest.raises(error) as caught:
            run_shell(finder, host, cli.cli, words)
        return str(caught.value)

    return run


# --- register -----------------------------------------------------------------------------------------


def test_a_service_is_registered_as_it_is_said(say, sent):
    printed = say(
        "register", "web", "--id", "web-1", "--port", "8080", "--http", "http://127.0.0.1:8080/health",
        "--tag", "v1", "--tag", "v2", "--meta", "a=1=2", "--timeout", "2s", "--deregister-after", "10m",
    )  # fmt: skip
    assert printed == "registered web (ID web-1) on n1\n"
    [(method, path, body)] = sent
    assert (method, path) == ("PUT", "/v1/agent/service/register")
    assert json.loads(body) == {
        "Name": "web",
        "ID": "web-1",
        "Port": 8080,
        "Tags": ["v1", "v2"],
        "Meta": {"a": "1=2"},
        "Check": {
            "HTTP": "http://127.0.0.1:8080/health",
            "Interval": "10s",
            "Timeout": "2s",
            "DeregisterCriticalServiceAfter": "10m",
        },
    }


def test_a_machine_without_a_member_is_named(say, sent):
    printed = say("register", "web", "--node", "hall 1", "--node-address", "192.0.2.7", "--json")
    assert json.loads(printed) == {
        "name": "web", "id": "web", "node": "hall 1", "result": "registered",
    }  # fmt: skip
    assert sent[0][1] == "/v1/agent/service/register?node=hall%201&node-address=192.0.2.7"


@pytest.mark.parametrize(
    ("more", "check"),
    [
        ({}, None),
        ({"ttl": "30s"}, {"TTL": "30s"}),
        ({"tcp": "a:1", "interval": "1s"}, {"TCP": "a:1", "Interval": "1s"}),
    ],
)
def test_options_become_a_check(more, check):
    assert body_of("web", Said(**more)).get("Check") == check


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"port": "x"}, "--port x: expected a whole number from 0 to 65535"),
        ({"port": "65536"}, "--port 65536: expected a whole number from 0 to 65535"),
        ({"meta": ("a",)}, "--meta a: expected KEY=VALUE"),
        ({"meta": ("=b",)}, "--meta =b: expected KEY=VALUE"),
        (
            {"ttl": "1s", "http": "http://a"},
            "--ttl and --http: a service that is registered so has one check; a file has more",
        ),
        (
            {"ttl": "1s", "interval": "1s"},
            "--interval is of a check that is run, and nothing runs for --ttl",
        ),
        ({"interval": "1s"}, "--interval is of a check: give --http, --tcp or --ttl too"),
        (
            {"deregister_after": "1m"},
            "--deregister-after is of a check: give --http, --tcp or --ttl too",
        ),
        ({"ttl": "10"}, "--ttl 10: expected a duration such as 500ms, 10s or 1m30s"),
        ({"ttl": "-1s"}, "--ttl -1s: expected a duration such as 500ms, 10s or 1m30s"),
    ],
)
def test_what_is_said_wrong_is_refused_before_anything_is_sent(more, text):
    with pytest.raises(ConfigError) as caught:
        body_of("web", Said(**more))
    assert str(caught.value) == text


def test_the_help_names_the_interval_that_is_taken(say):
    assert f"next [{registering.INTERVAL}]" in say("register", "--help")


def test_an_address_alone_names_no_machine(fails, sent):
    text = "--node-address is the address of the machine that --node names"
    assert fails("register", "web", "--node-address", "192.0.2.1") == text
    assert sent == []


def test_what_the_node_says_is_told(fails, cluster):
    text = "this node has 5,000 services, and may not have more"
    cluster.set(A, "/v1/agent/service/register", httpx.Response(400, text=text))
    assert fails("register", "web") == text


def test_without_a_member_here_nothing_is_registered(fails, sent, monkeypatch):
    monkeypatch.setattr(registering, "is_this_machine", lambda _: False)
    monkeypatch.setattr(registering, "address_here", lambda *_: "")
    text = fails("register", "web", host=None, error=Unreachable)
    assert "-h" in text
    assert "--node" in text
    assert Unreachable.exit_code == 3
    assert sent == []


def test_the_member_on_this_machine_is_asked_whichever_is_found(
    cluster, make, make_finder, sent, monkeypatch, capfd
):
    cluster.set(B, "/v1/cluster", make.info())
    cluster.set(A, "/v1/agent/self", SELF)
    monkeypatch.setattr(registering, "is_this_machine", lambda _: False)
    monkeypatch.setattr(registering, "address_here", lambda *_: A)
    assert run_shell(make_finder([B]), None, cli.cli, ("register", "web")) == 0
    assert capfd.readouterr().out == "registered web (ID web) on n1\n"
    assert len(sent) == 1


# --- register FILE -------------------------------------------------------------------------------------


def test_services_of_a_file_are_registered_in_order(say, sent, tmp_path):
    path = tmp_path / "web.json"
    path.write_text('{"services": [{"name": "a"}, {"id": "b-1", "name": "b"}]}')
    assert say("register", str(path)) == (
        "registered a (ID a) on n1\nregistered b (ID b-1) on n1\n"
    )
    assert [json.loads(body)["ID"] for _, _, body in sent] == ["a", "b-1"]


def test_the_first_refusal_ends_a_file_and_names_file_and_service(fails, cluster, tmp_path):
    path = tmp_path / "web.json"
    path.write_text('{"services": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}')
    answers = [httpx.Response(200), httpx.Response(400, text="no"), httpx.Response(200)]
    cluster.set(A, "/v1/agent/service/register", answers)
    text = fails("register", str(path), error=Refused)
    assert text == f"{path}: service b (ID b): no; 1 before it is registered"
    assert len(answers) == 1


def test_a_file_says_all_itself(fails, tmp_path):
    path = tmp_path / "web.json"
    path.write_text('{"name": "a"}')
    assert "is a file" in fails("register", str(path), "--port", "1")


# --- deregister, maint ---------------------------------------------------------------------------------


def test_in_a_shell_words_may_stand_in_quotes(finder, sent, cluster, monkeypatch, capfd):
    cluster.set(A, "/v1/health/state/any", lambda _: said([check()]))
    lines = (
        b'register "my web" --id "web-1" --tag "a b"\n'
        b"checks 'web'\n"
        b'maint on "web-1" --reason "new disk" --json\n'
        b'deregister "web-1" --json\n'
    )
    stdin = SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(lines))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run_shell(finder, A, cli.cli, ()) == 0
    assert json.loads(sent[0][2]) == {"Name": "my web", "ID": "web-1", "Tags": ["a b"]}
    assert [path for _, path, _ in sent[1:]] == [
        "/v1/agent/service/maintenance/web-1?enable=true&reason=new%20disk",
        "/v1/agent/service/deregister/web-1",
    ]
    assert capfd.readouterr().out.count('"id":"web-1"') == 2


@pytest.mark.parametrize(
    "words",
    [
        ("services", "a\udcff"), ("services", "--tag", "a\udcff"), ("checks", "a\udcff"),
        ("register", "a\udcff"), ("register", "x", "--tag", "y", "--tag", "a\udcff"),
        ("deregister", "a\udcff"), ("maint", "on", "a\udcff"),
        ("maint", "on", "--reason", "a\udcff"), ("session", "create", "--name", "a\udcff"),
    ],
)  # fmt: skip
def test_a_word_that_is_not_utf8_is_refused_before_anything_is_sent(fails, sent, words):
    assert fails(*words) == "the word 'a\\udcff' is not UTF-8"
    assert not sent


def test_a_service_goes(say, sent):
    assert say("deregister", "web-1") == "deregistered web-1 on n1\n"
    assert sent[0][:2] == ("PUT", "/v1/agent/service/deregister/web-1")
    assert json.loads(say("deregister", "web-1", "--node", "hall", "--json")) == {
        "name": None, "id": "web-1", "node": "hall", "result": "deregistered",
    }  # fmt: skip
    assert sent[1][1] == "/v1/agent/service/deregister/web-1?node=hall"


def test_a_service_that_is_not_there_is_status_1(fails, cluster):
    text = 'Unknown service ID "x". Ensure that the service ID is passed, not the service name.'
    cluster.set(A, "/v1/agent/service/deregister/x", httpx.Response(404, text=text))
    cluster.set(A, "/v1/agent/service/maintenance/x", httpx.Response(404, text=text))
    for words in (("deregister", "x"), ("maint", "on", "x")):
        for more, where in (((), "n1"), (("--node", "n2"), "n2")):
            assert fails(*words, *more, error=NotFound) == (
                f"{text} It was looked for on {where}; --node names another node"
            )
    assert NotFound.exit_code == 1


def test_maintenance_goes_on_and_off(say, sent):
    assert say("maint", "on", "--reason", "new disk") == "all of n1 is in maintenance\n"
    assert say("maint", "on", "web-1") == "web-1 on n1 is in maintenance\n"
    assert say("maint", "off", "web-1", "--node", "hall") == (
        "web-1 on hall is back from maintenance\n"
    )
    assert [path for _, path, _ in sent] == [
        "/v1/agent/maintenance?enable=true&reason=new%20disk",
        "/v1/agent/service/maintenance/web-1?enable=true",
        "/v1/agent/service/maintenance/web-1?enable=false&node=hall",
    ]


@pytest.mark.parametrize("words", [("maint",), ("maint", "maybe"), ("maint", "on", "a", "b")])
def test_maintenance_is_on_or_off(fails, words):
    assert "usage" in fails(*words)


def test_a_reason_is_for_turning_it_on(fails):
    assert fails("maint", "off", "--reason", "x") == "--reason says why maintenance is on"


@pytest.mark.parametrize("line", ["register web", "deregister web", "maint on"])
def test_an_interrupted_change_may_have_taken_effect(line):
    assert is_write(cli.cli, line)
    assert not is_write(cli.cli, "services")
    assert not is_write(cli.cli, "checks")


# --- services ------------------------------------------------------------------------------------------


@pytest.fixture
def web(cluster):
    """Two services, one of them with three instances."""
    cluster.set(A, "/v1/catalog/services", lambda _: said({"consul": [], "web": ["v1", "v2"]}, 9))
    cluster.set(A, "/v1/health/service/consul", lambda _: said([instance("consul", "n1")]))
    cluster.set(
        A,
        "/v1/health/service/web",
        lambda _: said(
            [
                instance("web-1", "n1", check()),
                instance("web-2", "n2", check(), check("m", "critical", Type="maintenance", Notes="disk")),
                instance("web-3", "n2", check("c", "critical", Output="no\nanswer"), Address="fd00::1"),
            ]
        ),
    )  # fmt: skip


def test_all_services_are_shown_with_their_instances(say, web):
    assert [re.split(" {2,}", line) for line in say("services").splitlines()] == [
        ["SERVICE", "INSTANCES", "TAGS"],
        ["consul", "1 passing"],
        ["web", "1 passing, 1 critical, 1 maintenance", "v1, v2"],
    ]


def test_the_instances_of_a_service_are_shown(say, web):
    assert say("services", "web").splitlines() == [
        "NODE  ID     ADDRESS       STATUS       TAGS  FAILING",
        "n1    web-1  10.0.0.1:80   passing      v1",
        "n2    web-2  10.0.0.1:80   maintenance  v1    name of m: disk",
        "n2    web-3  [fd00::1]:80  critical     v1    name of c: no answer",
    ]


def test_a_check_that_has_said_nothing_yet_is_named(say, cluster):
    cluster.set(
        A, "/v1/health/service/web", lambda _: said([instance("a", "n1", check("c", "critical"))])
    )
    assert say("services", "web").splitlines()[1].endswith("v1    name of c")


def test_instances_are_chosen(say, web, cluster):
    say("services", "web", "--passing", "--tag", "v 1")
    assert cluster.asked[-1][2] == "/v1/health/service/web?passing&tag=v%201"
    assert [line.split()[1] for line in say("services", "web", "--node", "N2").splitlines()] == [
        "ID", "web-2", "web-3",
    ]  # fmt: skip
    chosen = json.loads(say("services", "web", "--node", "n1", "--json"))
    assert [one["Service"]["ID"] for one in chosen] == ["web-1"]
    for tag in ("v2", "V2"):
        assert say("services", "--tag", tag).splitlines()[1].startswith("web ")
    assert json.loads(say("services", "--node", "n1", "--json")) == {
        "consul": [],
        "web": ["v1", "v2"],
    }


def test_as_json_they_have_consuls_shapes(say, web):
    assert json.loads(say("services", "--json")) == {"consul": [], "web": ["v1", "v2"]}
    found = json.loads(say("services", "web", "--json"))
    assert found[0] == instance("web-1", "n1", check())


def test_nothing_to_show_is_said(finder, cluster, capfd):
    cluster.set(A, "/v1/health/service/x", lambda _: said([]))
    assert run_shell(finder, A, cli.cli, ("services", "x")) == 1  # as a key that is not there
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "(there is no instance of x)\n")
    assert run_shell(finder, A, cli.cli, ("services", "x", "--json")) == 1
    assert capfd.readouterr().out == "[]\n"
    cluster.set(A, "/v1/health/state/any", lambda _: said([]))
    assert run_shell(finder, A, cli.cli, ("checks", "x")) == 1
    assert capfd.readouterr().err == "(there is no such check)\n"


def test_a_list_without_an_entry_is_a_list(finder, cluster, capfd):
    cluster.set(A, "/v1/health/state/critical", lambda _: said([]))
    assert run_shell(finder, A, cli.cli, ("checks", "--state", "critical")) == 0
    assert capfd.readouterr().err == "(there is no such check)\n"


def test_text_of_strangers_steers_no_terminal(say, cluster):
    evil = instance("\x1b[2J", "n1", check("c", "critical", Output="\x1b]0;x\x07"), Tags=["\x9b1m"])
    cluster.set(A, "/v1/health/service/web", lambda _: said([evil]))
    for shown in (say("services", "web"), say("services", "web", "--json")):
        assert not set("\x1b\x07\x9b") & set(shown)


def test_another_programs_answer_is_no_service(fails, cluster):
    cluster.set(A, "/v1/health/service/web", lambda _: said({"not": "a list"}))
    assert "not an hstore node" in fails("services", "web", error=Unreachable)


# --- checks --------------------------------------------------------------------------------------------


def test_checks_are_shown(say, cluster):
    found = [
        check("serfHealth", Output="alive", ServiceID="", ServiceName=""),
        check("c", "critical", Output="no\n answer"),
        check("m", "critical", Type="maintenance", Notes="disk", Output="x"),
    ]
    cluster.set(A, "/v1/health/state/any", lambda _: said(found))
    assert say("checks").splitlines() == [
        "STATUS    CHECK       SERVICE  NODE  INDEX  OUTPUT",
        "passing   serfHealth  -        n1    7      alive",
        "critical  c           web      n1    7      no answer",
        "critical  m           web      n1    7      disk",
    ]
    assert json.loads(say("checks", "--json")) == found


NAMES = ("CheckID", "ServiceName", "ServiceID")


def filter_sent(cluster):
    return httpx.URL(f"http://{A}{cluster.asked[-1][2]}").params["filter"]


def test_what_a_narrow_terminal_cuts_is_marked():
    cells = ("critical", "service:web-1", "web", "n1", "1234567", "no answer")
    titles = ("STATUS", "CHECK", "SERVICE", "NODE", "INDEX", "OUTPUT")
    drawn = io.StringIO()
    console = Console(width=46, file=drawn, force_terminal=False)
    console.print(table(Sight(titles, [Row(cells[:2], cells)], [], "none"), console.width))
    head, row = (line.split() for line in drawn.getvalue().splitlines())
    for words, whole in (
        (head, titles),
        (row, ["critical", "service:web-1", "web", "n1", "1234567", "no", "answer"]),
    ):
        assert all(word in whole or word.endswith("\u2026") for word in words)
    assert "\u2026" in "".join(row)


def drawn_in(width, seen):
    drawn = io.StringIO()
    Console(width=width, file=drawn, force_terminal=False).print(table(seen, width))
    return [line.rstrip() for line in drawn.getvalue().splitlines()]


def test_a_narrow_terminal_shows_each_status_whole_and_does_without_what_can_be_spared():
    titles = ("STATUS", "CHECK", "INDEX", "OUTPUT")
    cells = ("critical", "service:web-1", "1234567", "refused: nobody listens at that port")
    seen = Sight(titles, [Row(cells[:2], cells)], [], "none", spare=("INDEX",))
    assert drawn_in(80, seen)[1].split("  ") == [*cells[:2], "1234567", cells[3]]
    assert drawn_in(40, seen) == [
        "STATUS    CHECK          OUTPUT",
        "critical  service:web-1  refused: nobod\u2026",
    ]
    assert drawn_in(15, seen)[1].startswith("critical  ")


def test_a_very_long_output_costs_a_narrow_table_no_time():
    cells = ("critical", "x" * 4096)
    seen = Sight(("STATUS", "OUTPUT"), [Row(cells[:1], cells)], [], "none")
    assert drawn_in(30, seen)[1] == "critical  " + "x" * 19 + "\u2026"


def test_a_live_table_keeps_what_was_seen_while_no_node_answers(monkeypatch):
    monkeypatch.setattr(screen, "keyboard", lambda: None)
    drawn = io.StringIO()
    console = Console(width=60, height=20, file=drawn, force_terminal=True, color_system=None)
    seen = Sight(("NODE", "ID"), [Row(("n1", "web-1"), ("n1", "web-1"))], [], "none")
    watch([seen, Lost("n1 is lost: asking again")], console, now=lambda: MIDNIGHT)
    pictures, _, left = drawn.getvalue().rpartition("\x1b[?1049l")
    last = pictures.rpartition("\x1b[H")[2]
    assert "Ctrl-C ends it   as of 00:00:00" in last
    assert "q or" not in last
    assert "n1 is lost: asking again" in last
    assert "web-1" in last
    assert "web-1" in left
    assert "ends it" not in left


def test_checks_are_chosen_by_the_node(say, cluster):
    cluster.set(A, "/v1/health/state/critical", lambda _: said([check("c", "critical")]))
    say("checks", 'a"b', "--state", "critical")
    pattern = '"(?i)^a\\"b$"'
    assert filter_sent(cluster) == (
        f'CheckID matches {pattern} or ServiceName matches {pattern} or ServiceID == "a\\"b"'
    )


@pytest.mark.parametrize("name", ["web", "We.b", "a-b c#~&\\'{", "w\u00e9b", "w" * 255])
def test_names_of_checks_and_services_are_found_in_any_case(say, cluster, name):
    cluster.set(A, "/v1/health/state/any", lambda _: said([check()]))
    say("checks", name.lower() if len(name) < 255 else name)
    keeps = predicate(filter_sent(cluster), Object(dict.fromkeys(NAMES, Plain.TEXT)))
    shown = name.replace("e", "E").replace("a", "A")
    none = dict.fromkeys(NAMES, "")
    for field in ("CheckID", "ServiceName"):
        assert keeps({**none, field: shown})
        assert not keeps({**none, field: f"x{shown}"})
        assert not keeps({**none, field: f"{shown}x"})


# --- following -----------------------------------------------------------------------------------------


def sights(finder, look, count):
    """Take so many of what is followed."""
    with Connection(finder, None, lambda _: None) as connection:
        context = Context(connection, Output(is_terminal=False))
        found = reading.follow(context, look)
        return [next(found) for _ in range(count)]


def looking(*answers):
    """Give these answers one after the other, and keep what they were asked after."""
    left, asked = list(answers), []

    def look(_client, index):
        asked.append(index)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look, asked


def sight(content):
    return Sight(("A",), [], content, "none")


def test_a_watch_asks_after_the_index_it_has_seen(finder):
    look, asked = looking((5, sight(1)), (7, sight(2)), (9, sight(2)), (10, sight(3)))
    assert [one.content for one in sights(finder, look, 3)] == [1, 2, 3]
    assert asked == [0, 5, 7, 9]


def test_a_watch_goes_on_when_its_node_is_gone_or_has_no_leader(finder, clock):
    look, _ = looking(
        (5, sight(1)), NotApplied("No cluster leader; why"), Unreachable("gone"), (6, sight(2))
    )
    found = sights(finder, look, 4)
    assert [type(one) for one in found] == [Sight, Lost, Lost, Sight]
    assert found[1] == Lost("No cluster leader: asking again")
    assert clock.now() > 0


def test_a_watch_ends_when_nobody_answers_for_long(finder, clock):
    look, _ = looking((5, sight(1)), *[Unreachable("gone")] * 1000)
    with pytest.raises(Unreachable):
        sights(finder, look, 1000)
    assert reading.GIVE_UP_S <= clock.now() < reading.GIVE_UP_S + 1


def test_a_watch_of_nothing_that_answers_is_an_error_at_once(finder):
    look, _ = looking(NotApplied("No cluster leader"))
    with pytest.raises(NotApplied):
        sights(finder, look, 1)


def test_into_a_pipe_a_watch_prints_a_line_for_each_change(finder, cluster, capfd):
    rows = [
        said([instance("web-1", "n1", check())], 5),
        said([instance("web-1", "n1", check(status="critical", Output="no"))], 6),
        said([], 7),
        httpx.Response(500, text="enough"),
    ]
    cluster.set(A, "/v1/health/service/web", rows)
    with pytest.raises(Refused, match="enough"):
        run_shell(finder, A, cli.cli, ("services", "web", "--watch"))
    lines = [line.split(" ", 1)[1] for line in capfd.readouterr().out.splitlines()]
    assert lines == [
        "n1  web-1  10.0.0.1:80  passing  v1",
        "n1  web-1  10.0.0.1:80  critical  v1  name of service:web-1: no",
        "n1  web-1  is gone",
    ]
    waits = [path.partition("?")[2] for _, _, path in cluster.asked if "health" in path]
    assert waits == ["", "index=5&wait=4000ms", "index=6&wait=4000ms", "index=7&wait=4000ms"]


def test_as_json_a_watch_prints_all_of_it_each_time(finder, cluster, capfd):
    rows = [said([check()], 5), said([check()], 6), said([], 7), httpx.Response(500, text="enough")]
    cluster.set(A, "/v1/health/state/any", rows)
    with pytest.raises(Refused, match="enough"):
        run_shell(finder, A, cli.cli, ("checks", "--watch", "--json"))
    assert [json.loads(line) for line in capfd.readouterr().out.splitlines()] == [[check()], []]


def test_ctrl_c_ends_a_watch_as_that_of_every_other_command(finder, cluster):
    """So its status is 130, as that of `list --watch` and `watch`; see tests/cli/test_main.py."""

    def interrupted(_request):
        raise KeyboardInterrupt

    cluster.set(A, "/v1/health/service/web", [said([], 5), interrupted])
    with pytest.raises(KeyboardInterrupt):
        run_shell(finder, A, cli.cli, ("services", "web", "--watch"))


def test_a_watch_of_all_services_waits_for_their_names_and_looks_at_each(cluster, web):
    wanted = reading.Wanted(None, is_passing=False, tag=None, node=None)
    with cluster.connect(A, 5.0) as client:
        for index in (0, 9):
            found = reading._look_at_all(wanted, client, index)
            assert found[0] == 9
    assert [path for _, _, path in cluster.asked] == [
        "/v1/catalog/services", "/v1/health/service/consul", "/v1/health/service/web",
        "/v1/catalog/services?index=9&wait=1000ms", "/v1/health/service/consul",
        "/v1/health/service/web",
    ]  # fmt: skip


def test_of_very_many_services_no_instances_are_counted(say, cluster):
    many: dict[str, list[str]] = {f"s{number}": [] for number in range(reading.COUNTED_MAX + 1)}
    cluster.set(A, "/v1/catalog/services", lambda _: said(many))
    lines = say("services").splitlines()
    assert len(lines) == reading.COUNTED_MAX + 2
    assert lines[1].split() == ["s0", "-"]
