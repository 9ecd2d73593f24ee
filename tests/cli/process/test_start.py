"""What happens before a node runs: its ports, its cluster, and what is refused."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from typing import Any

import msgspec
import pytest
import trio

from hstore.cli.client.errors import Unreachable
from hstore.cli.options import Process
from hstore.cli.process import start
from hstore.cli.search.find import Finder
from hstore.dns.finder import Rank, look
from hstore.dns.resolver import Hosts
from hstore.node.config.settings import at_port, load_settings
from hstore.node.discovery import joining, run_record
from hstore.node.discovery.saved_members import SavedMember, SavedMembers, write
from hstore.node.errors import ConfigError, Refused
from hstore.node.storage.interface import Identity

# Any of 127.0.0.0/8 is this machine; one per test process, so that runs do not meet.
HOST = f"127.{os.getpid() % 200 + 10}.{os.getpid() // 200 % 250}.2"
SEED = "127.0.0.1:8500"


@pytest.fixture
def env(tmp_path):
    return {"HOME": str(tmp_path)}


@pytest.fixture
def served(monkeypatch):
    """What `serve` would have been called with; the ports are free again afterwards."""
    calls = []

    def serve(settings, sockets, mode, join_to, _settle):
        calls.append((settings, sockets.api.getsockname(), mode, join_to))
        sockets.close()
        return 0

    monkeypatch.setattr(start, "_serve", serve)
    return calls


def use(tmp_path, port):
    (tmp_path / ".local/share/hstore" / str(port) / "db").mkdir(parents=True)


def test_start_binds_the_given_address_and_asks_nobody(served, env, make_finder, cluster):
    assert start.start_node({"listen": f"{HOST}:8500"}, env, make_finder([SEED])) == 0
    [(settings, bound, mode, join_to)] = served
    assert (str(settings.listen), bound) == (f"{HOST}:8500", (HOST, 8500))
    assert (mode, join_to) == ("start", ())
    assert cluster.asked == []


def test_start_beside_a_live_cluster_is_refused_and_names_it_and_the_join(
    served, env, make_finder, cluster, make
):
    cluster.set(SEED, "/v1/cluster", make.info())
    with pytest.raises(Refused) as caught:
        start.start_node({}, env, make_finder([SEED]))
    for part in ("cluster 00000000000000c1", "n1 at 127.0.0.1:8500", "`hstore join`"):
        assert part in str(caught.value)
    assert served == []


def test_a_cluster_on_another_machine_is_no_reason_not_to_start_one_here(
    served, env, make_finder, cluster, make, monkeypatch
):
    monkeypatch.setattr(start, "bind_node_sockets", lambda _settings: FakeSockets())
    cluster.set(SEED, "/v1/cluster", make.info())
    finder = make_finder([])
    finder._sources = [*finder._sources, Hosts("discovery.hosts", [("127.0.0.1", 8500)])]
    assert start.start_node({}, env, finder) == 0


@pytest.mark.parametrize("flag", ["listen", "data_dir"])
def test_an_address_or_a_directory_says_that_another_cluster_is_meant(
    served, env, make_finder, cluster, make, tmp_path, flag, monkeypatch
):
    monkeypatch.setattr(start, "bind_node_sockets", lambda _settings: FakeSockets())
    cluster.set(SEED, "/v1/cluster", make.info())
    value = f"{HOST}:8500" if flag == "listen" else tmp_path / "d"
    assert start.start_node({flag: value}, env, make_finder([SEED])) == 0


def test_new_cluster_founds_a_second_cluster_beside_a_live_one(
    served, env, make_finder, cluster, make, monkeypatch
):
    monkeypatch.setattr(start, "bind_node_sockets", lambda _settings: FakeSockets())
    cluster.set(SEED, "/v1/cluster", make.info())
    assert start.start_node({"new_cluster": True}, env, make_finder([SEED])) == 0
    [(settings, *_)] = served
    assert settings.new_cluster
    assert cluster.asked == []


def test_a_used_directory_is_resumed_beside_a_live_cluster(
    served, env, make_finder, cluster, make, tmp_path, monkeypatch
):
    monkeypatch.setattr(start, "bind_node_sockets", lambda _settings: FakeSockets())
    cluster.set(SEED, "/v1/cluster", make.info())
    use(tmp_path, 8500)
    assert start.start_node({}, env, make_finder([SEED])) == 0
    assert cluster.asked == []


def test_a_taken_api_port_is_named_with_the_node_that_has_it(
    served, env, make_finder, cluster, make
):
    with socket.socket() as other:
        other.bind((HOST, 8500))
        other.listen()
        with pytest.raises(Refused, match="taken by another program; choose another address"):
            start.start_node({"listen": f"{HOST}:8500"}, env, make_finder())
        cluster.set(f"{HOST}:8500", "/v1/cluster", make.info(make.node(7, address=f"{HOST}:8500")))
        with pytest.raises(
            Refused, match=r"(?s)taken by cluster 0+c1 .*\(n7 at .*`hstore join`"
        ) as e:
            start.start_node({"listen": f"{HOST}:8500"}, env, make_finder())
        assert e.value.exit_code == 1


def test_a_taken_dns_port_is_named_with_the_option_that_moves_it(served, env, make_finder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, 8600))
        with pytest.raises(Refused, match=f"DNS port {HOST}:8600 is taken.*--dns-port"):
            start.start_node({"listen": f"{HOST}:8500"}, env, make_finder())


def test_join_finds_the_cluster_and_hands_on_every_live_member_the_one_found_first(
    served, env, make_finder, cluster, make
):
    info = make.info(make.node(1), make.node(2), make.node(3, health="failed"))
    cluster.set("127.0.0.1:8501", "/v1/cluster", info)
    finder = make_finder(["127.0.0.1:8501"])
    assert start.join_cluster({"listen": f"{HOST}:8500"}, env, None, finder) == 0
    [(_, _, mode, join_to)] = served
    assert (mode, join_to) == ("join", ("127.0.0.1:8501", "127.0.0.1:8500"))


def test_join_without_listen_takes_the_first_free_ports(
    served, env, make_finder, cluster, make, monkeypatch
):
    cluster.set(SEED, "/v1/cluster", make.info())
    seen = []

    def first_free(settings, _env):
        seen.append(settings)
        return settings, FakeSockets()

    monkeypatch.setattr(start, "bind_first_free", first_free)
    assert start.join_cluster({}, env, SEED, make_finder()) == 0
    assert len(seen) == 2  # looked for, and taken
    assert len(served) == 1


def test_join_beside_a_running_node_is_not_taken_for_that_nodes_own_return(
    served, env, make_finder, cluster, make, monkeypatch, tmp_path
):
    """The directory of the usual port is the running node's; the newcomer's is that of its own."""
    use(tmp_path, 8500)
    save_members(tmp_path, 8500)
    cluster.set(SEED, "/v1/cluster", make.info())

    def first_free(settings, env):
        return at_port(settings, 8501, env), FakeSockets()

    monkeypatch.setattr(start, "bind_first_free", first_free)
    assert start.join_cluster({}, env, None, make_finder([SEED])) == 0
    ((settings, _, mode, join_to),) = served
    assert (settings.data_dir.name, mode) == ("8501", "join")
    assert SEED in join_to


def test_join_whose_place_is_taken_while_it_looks_takes_the_next(
    served, env, make_finder, cluster, make, monkeypatch, tmp_path
):
    use(tmp_path, 8501)
    save_members(tmp_path, 8501)
    cluster.set(SEED, "/v1/cluster", make.info())
    ports = [8501, 8502, 8502, 8502]

    def first_free(settings, env):
        return at_port(settings, ports.pop(0), env), FakeSockets()

    monkeypatch.setattr(start, "bind_first_free", first_free)
    assert start.join_cluster({}, env, None, make_finder([SEED])) == 0
    ((settings, _, _, join_to),) = served
    assert settings.data_dir.name == "8502"
    assert SEED in join_to


def test_join_by_a_nodes_name(served, env, make_finder, cluster, make):
    for address in (SEED, "127.0.0.1:8501"):
        cluster.set(address, "/v1/cluster", make.info())
    assert start.join_cluster({"listen": f"{HOST}:8500"}, env, "n2", make_finder([SEED])) == 0
    assert served[0][3][0] == "127.0.0.1:8501"


def test_join_where_nothing_is_found_is_status_3_and_leaves_no_port_bound(served, env, make_finder):
    for host in (None, "127.0.0.1:1"):
        with pytest.raises(Unreachable):
            start.join_cluster({"listen": f"{HOST}:8500"}, env, host, make_finder())
    assert served == []
    assert start.start_node({"listen": f"{HOST}:8500"}, env, make_finder()) == 0


def save_members(tmp_path, port):
    one = SavedMember("00000000000000a1", "n1", "127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    members = SavedMembers("00000000000000c1", "hstore.local", (one,))
    write(tmp_path / ".local/share/hstore" / str(port), members)


def test_join_in_a_members_directory_searches_for_nothing_for_the_node_does_so_itself(
    served, env, make_finder, cluster, make, tmp_path
):
    use(tmp_path, 8500)
    save_members(tmp_path, 8500)
    cluster.set(SEED, "/v1/cluster", make.info(cluster_id="00000000000000c2"))
    assert start.join_cluster({"listen": f"{HOST}:8500"}, env, None, make_finder([SEED])) == 0
    assert served[0][2:] == ("join", ())
    assert cluster.asked == []


def test_join_in_a_members_directory_replaces_nobody_and_says_so(
    served, env, make_finder, tmp_path, monkeypatch, capfd
):
    use(tmp_path, 8500)
    save_members(tmp_path, 8500)
    flags = {"listen": f"{HOST}:8500", "replace": "n1"}
    for own, is_said in ((0xA2, True), (0xA1, False)):
        identity = Identity("00000000000000c1", own)
        monkeypatch.setattr(start, "read_identity", lambda _path, found=identity: found)
        assert start.join_cluster(flags, env, None, make_finder([])) == 0
        err = capfd.readouterr().err
        assert ("--replace n1 does nothing" in err) is is_said
        assert ("`hstore leave -h n1`" in err) is is_said


def test_join_where_only_the_members_are_left_of_a_directory_joins_anew(
    served, env, make_finder, cluster, make, tmp_path
):
    (tmp_path / ".local/share/hstore/8500").mkdir(parents=True)
    save_members(tmp_path, 8500)
    cluster.set(SEED, "/v1/cluster", make.info())
    assert start.join_cluster({"listen": f"{HOST}:8500"}, env, None, make_finder([SEED])) == 0
    assert served[0][3][0] == SEED


def test_join_in_a_directory_of_a_join_that_was_cut_short_passes_over_other_clusters(
    served, env, make_finder, cluster, make, tmp_path
):
    use(tmp_path, 8500)
    about = {"format": 1, "cluster_id": "00000000000000c1", "node_id": "00000000000000a1"}
    path = tmp_path / ".local/share/hstore/8500/db/hstore.json"
    path.write_bytes(msgspec.json.encode(about))
    cluster.set(SEED, "/v1/cluster", make.info(cluster_id="00000000000000c2"))
    cluster.set("127.0.0.1:8501", "/v1/cluster", make.info())
    finder = make_finder([SEED, "127.0.0.1:8501"])
    assert start.join_cluster({"listen": f"{HOST}:8500"}, env, None, finder) == 0
    assert served[0][3][0] == "127.0.0.1:8501"


def test_join_resumes_a_used_directory_while_no_other_node_runs(served, env, make_finder, tmp_path):
    use(tmp_path, 8500)
    assert start.join_cluster({"listen": f"{HOST}:8500"}, env, None, make_finder()) == 0
    assert served[0][2:] == ("join", ())


def test_a_node_cannot_join_itself(served, env, make_finder, cluster, make):
    own = f"{HOST}:8500"
    cluster.set(own, "/v1/cluster", make.info(make.node(1, address=own)))
    with pytest.raises(ConfigError, match=r"cannot join itself.*which is n1.*another --listen"):
        start.join_cluster({"listen": own}, env, own, make_finder())


def test_a_node_on_loopback_cannot_join_members_beyond_it(served, env, make_finder, cluster, make):
    info = make.info(make.node(1), make.node(2, address="192.0.2.7:8500"))
    cluster.set(SEED, "/v1/cluster", info)
    with pytest.raises(ConfigError, match=r"n2 at 192\.0\.2\.7:8500.*--listen ") as caught:
        start.join_cluster({}, env, SEED, make_finder())
    assert caught.value.exit_code == 2


def test_a_node_ends_by_sigterm_when_the_process_that_started_it_is_gone():
    read_end, write_end = os.pipe()
    program = (
        "import sys, time; from hstore.cli.process.start import end_with_parent; "
        "end_with_parent(int(sys.argv[1])); print('up', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(read_end)], pass_fds=[read_end], stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert child.poll() is None
        os.close(write_end)
        assert child.wait(20) == -signal.SIGTERM
    os.close(read_end)


def record_running(env, make, data_dir, **changes):
    run_record.write(make.record(1, pid=os.getppid(), data_dir=str(data_dir), **changes), env)


@pytest.mark.parametrize("option", ["listen", "data_dir"])
def test_a_directory_whose_node_runs_is_said_to_run_with_where(
    served, env, make_finder, cluster, make, tmp_path, option
):
    data_dir = tmp_path / ".local/share/hstore/8500"
    record_running(env, make, data_dir)
    flags = {"listen": f"{HOST}:8500"} if option == "listen" else {"data_dir": str(data_dir)}
    cluster.set(SEED, "/v1/cluster", make.info())
    for run in (start.start_node, lambda f, e, finder: start.join_cluster(f, e, SEED, finder)):
        with pytest.raises(Refused, match=f"n1 of .*8500 runs already, at {SEED}") as error:
            run(flags, env, make_finder())
        assert error.value.exit_code == 1
    assert served == []


def test_a_members_directory_joins_no_zone_but_its_own(
    served, env, make_finder, cluster, make, tmp_path, monkeypatch
):
    monkeypatch.setattr(start, "bind_node_sockets", lambda _settings: FakeSockets())
    use(tmp_path, 8500)
    member = SavedMember("00000000000000a1", "n1", SEED, "127.0.0.1:8300", "127.0.0.1:8600")
    saved = SavedMembers("00000000000000c1", "hstore.local", (member,))
    write(tmp_path / ".local/share/hstore/8500", saved)
    flags = {"listen": "127.0.0.1:8500"}
    finder = make_finder(zone="other.example", is_zone_given=True)
    with pytest.raises(Refused, match=r"c1 of zone hstore\.local, not of zone other\.example"):
        start.join_cluster(flags, env, None, finder)
    assert served == []
    assert start.join_cluster(flags, env, None, make_finder(is_zone_given=True)) == 0


def test_the_record_of_this_very_process_is_that_of_its_last_life(served, env, make_finder, make):
    data_dir = load_settings({"listen": f"{HOST}:8500"}, env).data_dir
    run_record.write(make.record(1, pid=os.getpid(), data_dir=str(data_dir)), env)
    assert start.start_node({"listen": f"{HOST}:8500"}, env, make_finder()) == 0


def test_start_looks_for_a_cluster_at_ports_that_are_recorded_here_too(
    served, env, make, tmp_path, monkeypatch
):
    record_running(env, make, tmp_path / "d", dns_address="127.0.0.1:9100")
    asked: list[Any] = []

    def find_here(finder):
        asked.extend(one for one in finder._sources if one.rank == Rank.HERE)

    monkeypatch.setattr(Finder, "find_here", find_here)
    assert start.start_node({}, env) == 0
    (here,) = asked
    findings = trio.run(look, "hstore.local", [here])
    assert ("127.0.0.1", 9100) in {one.server for one in findings.attempts}


def test_a_node_that_is_to_be_resumed_asks_nobody_and_is_never_made(
    served, env, make_finder, cluster, make, tmp_path
):
    flags, process = {"listen": f"{HOST}:8500"}, Process(resume=True)
    for run in (start.start_node, lambda f, e, *more: start.join_cluster(f, e, SEED, *more)):
        with pytest.raises(Refused, match="holds no node"):
            run(flags, env, make_finder(), process)
    assert served == []
    use(tmp_path, 8500)
    assert start.join_cluster(flags, env, SEED, make_finder(), process) == 0
    assert cluster.asked == []


class FakeSockets:
    """Sockets of nobody, where the default ports of this machine may be in use."""

    class api:  # noqa: N801
        @staticmethod
        def getsockname():
            return ("127.0.0.1", 8500)

    def close(self):
        pass


def test_a_proxy_of_the_environment_does_not_come_between_a_newcomer_and_its_cluster(
    monkeypatch, server, make
):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.answers["GET", "/v1/cluster"] = (200, msgspec.to_builtins(make.info()))
    assert joining.find_cluster((server.address,)) == make.info().cluster_id


@pytest.fixture
def taken_here():
    """The API port 8500 of an address of this machine beyond 127.0.0.1, with what stands there."""
    with socket.socket() as other:
        other.bind((HOST, 8500))
        other.listen()
        yield HOST


def test_the_address_for_a_second_cluster_is_one_that_is_free(
    served, env, make_finder, cluster, make, monkeypatch
):
    cluster.set(SEED, "/v1/cluster", make.info())
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 8500))
        except OSError:
            pytest.skip("another program has port 8500")
        other.listen()
        with pytest.raises(Refused) as caught:
            start.start_node({}, env, make_finder([SEED]))
    assert "`hstore start -h 127.0.0.1:8500`" not in str(caught.value)
    assert "`hstore start -h 127.0.0.1:8" in str(caught.value)


def test_the_address_for_a_join_beyond_loopback_is_free_and_the_replaced_node_is_kept(
    served, env, make_finder, cluster, make, taken_here, monkeypatch
):
    monkeypatch.setattr(start, "own_address_towards", lambda _address: taken_here)
    monkeypatch.setattr(start, "_place", lambda settings, _env: settings)
    far = "192.0.2.9:8500"
    cluster.set(far, "/v1/cluster", make.info(make.node(1, address=far)))
    with pytest.raises(ConfigError) as caught:
        start.join_cluster({"replace": "n2"}, env, far, make_finder())
    assert f"`hstore join -h {far} --listen {taken_here}:8501 --replace n2`" in str(caught.value)
    assert served == []


def test_a_join_is_told_the_address_beside_a_node_that_runs_beyond_loopback(
    served, env, make_finder, make, taken_here, monkeypatch, tmp_path
):
    monkeypatch.setattr(start, "_place", lambda settings, _env: settings)
    default = tmp_path / ".local/share/hstore/8500"
    record = make.record(
        1, pid=os.getppid(), data_dir=str(default), address=f"{taken_here}:8500",
        listen=f"{taken_here}:8500",
    )  # fmt: skip
    run_record.write(record, env)
    with pytest.raises(Refused) as caught:
        start.join_cluster({}, env, None, make_finder())
    assert f"`hstore join --listen {taken_here}:8501`" in str(caught.value)
    assert served == []
