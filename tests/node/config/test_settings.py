"""Where the settings of a node come from, and what is said when one is wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import msgspec
import pytest

from hstore.node.config import cluster_settings
from hstore.node.config.log_forms import LEVELS
from hstore.node.config.settings import (
    at_port,
    load_search,
    load_settings,
    refuse_own_dns_among_recursors,
)
from hstore.node.errors import ConfigError, HstoreError, Refused
from hstore.node.model import values
from hstore.node.model.commands import ClusterSettings

ENV = {"HOME": "/home/ada"}


def write_config(folder: Path, text: str) -> dict[str, object]:
    path = folder / "node.toml"
    path.write_text(text)
    return {"config": path}


def test_without_any_source_a_node_listens_on_loopback_and_keeps_data_in_the_users_folder():
    settings = load_settings({}, ENV)
    assert str(settings.listen) == "127.0.0.1:8500"
    assert (settings.peer_port, settings.dns_port) == (8300, 8600)
    assert settings.data_dir == Path("/home/ada/.local/share/hstore/8500")
    assert settings.cluster == ClusterSettings()
    assert settings.given == frozenset()


def test_a_flag_wins_over_a_variable_which_wins_over_the_file_which_wins_over_the_default(tmp_path):
    config = write_config(tmp_path, 'name = "file"\ncache_mb = 1\nlog_level = "error"\n')
    env = ENV | {"HSTORE_NAME": "variable", "HSTORE_CACHE_MB": "2"}
    settings = load_settings({**config, "name": "flag"}, env)
    assert (settings.name, settings.cache_mb, settings.log_level) == ("flag", 2, "error")
    assert settings.given == {"name", "cache_mb", "log_level"}


def test_an_empty_variable_counts_as_not_set():
    assert load_settings({}, ENV | {"HSTORE_NAME": "", "HSTORE_CONFIG": ""}).name == ""


def test_the_config_file_may_be_named_by_a_variable(tmp_path):
    config = write_config(tmp_path, 'name = "file"')
    assert load_settings({}, ENV | {"HSTORE_CONFIG": str(config["config"])}).name == "file"


def test_cluster_settings_are_read_from_file_and_variables_in_their_units(tmp_path):
    config = write_config(
        tmp_path,
        '[cluster]\nzone = "Kv.Example.ORG."\nheartbeat = "50ms"\nelection_timeout = "2s"\n'
        'dns_ttl = "1m"\n',
    )
    settings = load_settings(config, ENV | {"HSTORE_HEALTH_INTERVAL": "1s"})
    assert settings.cluster == ClusterSettings(
        zone="kv.example.org",
        heartbeat_ms=50,
        election_timeout_ms=2000,
        health_interval_ms=1000,
        dns_ttl_s=60,
    )
    assert "cluster.dns_ttl" in settings.given


def test_the_settings_of_services_are_kept_in_one_spelling(tmp_path):
    config = write_config(
        tmp_path,
        '[cluster]\nalt_domains = ["Consul.", "example.NET", "consul"]\n[cluster.dns]\n'
        'service_ttl = " web* = 1m , *=0s"\nonly_passing = true\nempty = "nxdomain"\n',
    )
    settings = load_settings(config, ENV | {"HSTORE_DNS_MAX_STALE": "1s"})
    assert settings.cluster == ClusterSettings(
        alt_domains="consul,example.net",
        dns_service_ttl="web*=60s,*=0s",
        dns_only_passing=1,
        dns_empty="nxdomain",
        dns_max_stale_ms=1000,
    )
    assert values.service_ttls(settings.cluster.dns_service_ttl) == (("web*", 60), ("*", 0))
    for one in cluster_settings.SETTINGS:
        value = getattr(settings.cluster, one.field)
        assert one.parse(one.show(value)) == value
    for field, value in (("alt_domains", ""), ("dns_service_ttl", ""), ("dns_only_passing", 0)):
        changed = cluster_settings.changed(settings.cluster, field, value)
        assert getattr(changed, field) == value
    with pytest.raises(ValueError, match=r"dns\.only_passing: 2 is not allowed"):
        cluster_settings.changed(settings.cluster, "dns_only_passing", 2)


@pytest.mark.parametrize(
    ("key", "written", "shown"),
    [
        ("heartbeat", "1500ms", "1500ms"),
        ("dns_ttl", "0s", "0s"),
        ("dns_ttl", "90s", "90s"),
        ("check_update_interval", "300s", "5m"),
        ("session_node_grace", "3600000ms", "1h"),
        ("dns.max_stale", "1440m", "24h"),
        ("session_ttl_min", "24h", "24h"),
        ("check_update_interval", "0", "0s"),
        ("dns.service_ttl", "web=120s,*=5s", "web=2m,*=5s"),
        ("dns.service_ttl", "5s", "*=5s"),
        ("dns.service_ttl", "0", "*=0s"),
        ("dns.service_ttl", "web=9s, 5s", "web=9s,*=5s"),
    ],
)
def test_durations_are_shown_as_people_write_them(key, written, shown):
    setting = cluster_settings.BY_KEY[key]
    value = setting.take(written)
    assert setting.show(value) == shown
    assert setting.take(shown) == value


def test_what_only_users_may_not_set_takes_effect_where_a_log_has_it():
    """All nodes decide alike, and those of other builds have taken such values."""
    for field, value in (
        ("alt_domains", "arpa"),
        ("alt_domains", "node.hstore.local"),
        ("datacenter", "node"),
    ):
        changed = cluster_settings.changed(ClusterSettings(), field, value)
        assert getattr(changed, field) == value


def test_an_alternative_domain_may_not_lie_below_another_one():
    with pytest.raises(ConfigError, match=r"'dc1\.consul' .* would hide names of consul"):
        load_settings({"cluster.alt_domains": ["DC1.consul", "consul"]}, ENV)


def test_a_zone_may_lie_below_another_domain_of_its_cluster_and_be_one_of_them():
    for domains in ("consul", "dc1.consul,example.net"):
        given = {"cluster.alt_domains": domains, "cluster.zone": "dc1.consul"}
        assert load_settings(given, ENV).cluster.alt_domains == domains


def test_a_domain_below_arpa_without_reverse_names_is_allowed():
    given = {"cluster.alt_domains": "home.arpa", "cluster.zone": "hstore.home.arpa"}
    settings = load_settings(given, ENV)
    assert settings.cluster.alt_domains == "home.arpa"
    assert settings.cluster.zone == "hstore.home.arpa"


def test_the_data_folder_follows_xdg_data_home_unless_that_is_relative():
    here = load_settings({}, ENV | {"XDG_DATA_HOME": "/data"})
    ignored = load_settings({}, ENV | {"XDG_DATA_HOME": "data"})
    assert here.data_dir == Path("/data/hstore/8500")
    assert ignored.data_dir == Path("/home/ada/.local/share/hstore/8500")


def test_without_a_home_the_error_asks_for_a_data_directory():
    with pytest.raises(ConfigError, match="--data-dir"):
        load_settings({}, {})
    assert load_settings({"data_dir": "/d"}, {}).data_dir == Path("/d")


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("listen", "127.0.0.1:0", "from 1 to 65535"),
        ("listen", "127.0.0.1:65536", "from 1 to 65535"),
        ("listen", "::1:8500:x", "HOST:PORT"),
        ("listen", "[127.0.0.1]:8500", "brackets"),
        ("listen", f"{'a' * 64}.invalid:1", "host name that is known"),
        ("listen", "", "not empty"),
        ("peer_port", "0", "from 1 to 65535"),
        ("dns_port", "x", "from 1 to 65535"),
        ("advertise", "0.0.0.0", "wildcard"),
        ("name", "N1", "a-z, 0-9"),
        ("name", "-n", "DNS label"),
        ("name", "n" * 64, "1 to 63"),
        ("cache_mb", "0", "from 1"),
        ("cache_mb", True, "from 1"),
        ("log_level", "loud", ", ".join(LEVELS)),
        ("log_format", "xml", "json, text, journal"),
        ("http.hosts", ["a b"], "host names"),
        ("http.hosts", 5, "host names"),
        ("recursors", "dns.example", "IP addresses"),
        ("recursors", "192.0.2.53,", "IP addresses"),
        ("recursors", "192.0.2.53:0", "IP addresses"),
        ("recursors", ["0.0.0.0"], "IP addresses"),
        ("recursors", ["224.0.0.251"], "IP addresses"),
        ("recursors", [f"192.0.2.{number}" for number in range(9)], "at most 8"),
        ("recursors", [53], "IP addresses"),
        ("recursors", 53, "IP addresses"),
        ("checks.script", "yes", "true or false"),
        ("checks.deny", "metadata.example", "IP addresses or networks"),
        ("checks.deny", "10.0.0.1/8", "IP addresses or networks"),
        ("checks.deny", [10], "IP addresses or networks"),
        ("checks.deny", 10, "IP addresses or networks"),
        ("checks.deny", [f"192.0.2.{number}" for number in range(65)], "at most 64"),
        ("discovery.hosts", ["a b"], "HOST or HOST:PORT"),
        ("discovery.dns", "a,,b", "HOST or HOST:PORT"),
        ("discovery.dns", 5, "HOST or HOST:PORT"),
        ("discovery.mdns", "no", "true or false"),
        ("cluster.zone", "a..b", "DNS domain"),
        ("cluster.zone", ".".join(["a" * 63] * 3), "at most 184"),
        ("cluster.heartbeat", "100", "500ms, 1s or 2m"),
        ("cluster.heartbeat", "1ms", "from 10ms to 10s"),
        ("cluster.election_timeout", "2h", "500ms, 1s or 2m"),
        ("cluster.dns_ttl", "1500ms", "whole seconds"),
        ("cluster.alt_domains", "a..b", "at most 4 DNS domains"),
        ("cluster.alt_domains", "a,b,c,d,e", "at most 4 DNS domains"),
        ("cluster.alt_domains", 5, "at most 4 DNS domains"),
        ("cluster.alt_domains", ["lab.example", "arpa"], "no reverse names"),
        ("cluster.alt_domains", "10.in-addr.arpa", "no reverse names"),
        ("cluster.alt_domains", "IP6.arpa.", "no reverse names"),
        ("cluster.alt_domains", "x.hstore.local", "hide names of hstore.local"),
        ("cluster.zone", "in-addr.arpa", "no reverse names"),
        ("cluster.datacenter", "a.b", "1 to 63"),
        ("cluster.datacenter", "Service", "such as dc1 that means nothing else"),
        ("cluster.datacenter", "leader", "such as dc1 that means nothing else"),
        ("cluster.datacenter", "_tcp", "does not begin with '_'"),
        ("cluster.check_update_interval", "25h", "500ms, 1s or 2m"),
        ("cluster.dns.service_ttl", "web", "NAME=DURATION"),
        ("cluster.dns.service_ttl", "5s,*=6s", "each name once"),
        ("cluster.dns.service_ttl", "=5s", "NAME=DURATION"),
        ("cluster.dns.service_ttl", "a*b=5s", "NAME=DURATION"),
        ("cluster.dns.service_ttl", "web=1500ms", "whole seconds"),
        ("cluster.dns.service_ttl", "web=1s,web=2s", "each name once"),
        ("cluster.dns.service_ttl", "web\n=1s", "NAME=DURATION"),
        ("cluster.dns.service_ttl", f"{'w' * 994}=1440m", "at most 1000 characters"),
        ("cluster.dns.only_passing", "yes", "true or false"),
        ("cluster.dns.empty", "none", "nodata, nxdomain"),
        ("cluster.dns.max_stale", "0s", "from 1s to 24h"),
    ],
)
def test_a_bad_value_is_an_error_that_names_key_value_and_what_is_allowed(key, value, allowed):
    with pytest.raises(ConfigError) as caught:
        load_settings({key: value}, ENV)
    message = str(caught.value)
    assert message.startswith(f"{key}: ")
    assert repr(value) in message
    assert allowed in message.partition("allowed: ")[2]


def test_checks_run_no_scripts_and_ask_no_metadata_unless_the_settings_say_so():
    default = load_settings({}, ENV)
    assert default.checks_script is False
    assert [str(one) for one in default.checks_deny] == ["169.254.169.254/32", "fd00:ec2::254/128"]
    env = ENV | {"HSTORE_CHECKS_SCRIPT": "true", "HSTORE_CHECKS_DENY": "10.0.0.0/8, ::1"}
    given = load_settings({}, env)
    assert given.checks_script is True
    assert [str(one) for one in given.checks_deny] == ["10.0.0.0/8", "::1/128"]
    assert load_settings({"checks.deny": []}, ENV).checks_deny == ()


def test_an_error_names_the_source_of_the_value(tmp_path):
    config = write_config(tmp_path, "cache_mb = -1")
    with pytest.raises(ConfigError, match=r"-1 in .*node\.toml is not allowed"):
        load_settings(config, ENV)
    with pytest.raises(ConfigError, match="in HSTORE_CACHE_MB"):
        load_settings(config, ENV | {"HSTORE_CACHE_MB": "much"})


def test_an_unknown_key_of_the_file_is_refused_with_what_was_perhaps_meant(tmp_path):
    config = write_config(tmp_path, '[cluster]\nhartbeat = "1s"')
    with pytest.raises(
        ConfigError, match=r"^cluster\.hartbeat: .*'1s'.*perhaps cluster\.heartbeat"
    ):
        load_settings(config, ENV)


def test_an_unknown_variable_is_refused_but_not_those_of_kubernetes_service_links():
    links = {"HSTORE_SERVICE_HOST": "10.0.0.1", "HSTORE_PORT": "tcp://x", "HSTORE_PORT_1_TCP": "x"}
    assert load_settings({}, ENV | links | {"HSTORE_HOST": "127.0.0.1"}).name == ""
    other = {
        "HSTORE_PEERS_SERVICE_PORT_API": "8500",
        "HSTORE_PEERS_PORT": "tcp://10.0.0.2:8500",
        "HSTORE_PEERS_PORT_8500_TCP_ADDR": "10.0.0.2",
    }
    assert load_settings({}, ENV | other).name == ""
    with pytest.raises(ConfigError, match=r"^HSTORE_PEERS_PORT: unknown variable"):
        load_settings({}, ENV | {"HSTORE_PEERS_PORT": "8300"})
    with pytest.raises(ConfigError, match=r"^HSTORE_PORT: unknown variable"):
        load_settings({}, ENV | {"HSTORE_PORT": "8500"})
    with pytest.raises(ConfigError, match=r"^HSTORE_LISTN: .*perhaps HSTORE_LISTEN") as caught:
        load_settings({}, ENV | {"HSTORE_LISTN": "a secret"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["name = ", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_named(tmp_path, text):
    path = tmp_path / "bad.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        load_settings({"config": path}, ENV)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.toml cannot be read: No such file"):
        load_settings({"config": tmp_path / "none.toml"}, ENV)


def test_an_election_timeout_below_four_heartbeats_is_refused():
    flags = {"cluster.heartbeat": "251ms", "cluster.election_timeout": "1s"}
    with pytest.raises(ConfigError, match=r"cluster\.election_timeout: '1s'.*at least 4 times"):
        load_settings(flags, ENV)
    flags["cluster.heartbeat"] = "250ms"
    assert load_settings(flags, ENV).cluster.heartbeat_ms == 250


def test_a_wildcard_needs_to_be_told_what_to_advertise():
    with pytest.raises(ConfigError, match="--advertise ADDR"):
        load_settings({"listen": "0.0.0.0:8500"}, ENV)
    settings = load_settings({"listen": "0.0.0.0:8500", "advertise": "10.0.0.7"}, ENV)
    assert settings.api_address == "10.0.0.7:8500"
    assert settings.peer_address == "10.0.0.7:8300"
    assert settings.dns_address == "10.0.0.7:8600"


@pytest.mark.parametrize(
    ("advertise", "api", "peer"),
    [
        ("10.0.0.7:80", "10.0.0.7:80", "10.0.0.7:8300"),
        ("::1", "[::1]:8500", "[::1]:8300"),
        ("[fd00::2]:81", "[fd00::2]:81", "[fd00::2]:8300"),
        ("localhost", "127.0.0.1:8500", "127.0.0.1:8300"),
    ],
)
def test_advertised_addresses_take_the_port_that_is_given_and_brackets_for_ipv6(
    advertise, api, peer
):
    settings = load_settings({"advertise": advertise}, ENV)
    assert (settings.api_address, settings.peer_address) == (api, peer)


def test_an_api_port_without_room_for_the_others_is_refused_unless_they_are_given():
    with pytest.raises(ConfigError, match=r"peer_port would be -120"):
        load_settings({"listen": "127.0.0.1:80"}, ENV)
    with pytest.raises(ConfigError, match=r"dns_port would be 65600"):
        load_settings({"listen": "127.0.0.1:65500"}, ENV)
    settings = load_settings({"listen": "127.0.0.1:80", "peer_port": "8300"}, ENV)
    assert (settings.peer_port, settings.dns_port) == (8300, 180)


def test_recursors_are_a_list_or_a_text_with_commas_and_their_port_is_53(tmp_path):
    expected = (("192.0.2.53", 53), ("2001:db8::53", 53), ("192.0.2.54", 5353), ("2001:db8::1", 54))
    written = ["192.0.2.53", "2001:DB8::53", "192.0.2.54:5353", "[2001:db8::1]:54", "192.0.2.53"]
    config = write_config(tmp_path, f"recursors = {written}")
    assert load_settings(config, ENV).recursors == expected
    text = ", ".join(written)
    assert load_settings({}, ENV | {"HSTORE_RECURSORS": text}).recursors == expected
    assert load_settings({"recursors": text}, ENV).recursors == expected
    assert load_settings({}, ENV).recursors == ()


@pytest.mark.parametrize(
    ("listen", "own", "fine"),
    [
        ("127.0.0.1", "127.0.0.1:8600", "127.0.0.1:8601"),
        ("127.0.0.1", "127.0.0.1:8600", "127.0.0.53:8600"),
        ("10.0.0.7", "10.0.0.7:8600", "10.0.0.7:53"),
        ("::1", "[::1]:8600", "[::1]:53"),
        ("0.0.0.0", "127.0.0.2:8600", "10.0.0.9:8600"),
        ("0.0.0.0", "10.0.0.8:8600", "10.0.0.8:53"),
    ],
)
def test_a_node_is_no_recursor_of_itself(listen, own, fine):
    flags = {"listen": f"{listen}:8500" if "." in listen else f"[{listen}]:8500"}
    if listen == "0.0.0.0":
        flags["advertise"] = "10.0.0.8"
    refuse_own_dns_among_recursors(load_settings(flags | {"recursors": fine}, ENV))
    settings = load_settings(flags | {"recursors": f"{fine},{own}"}, ENV)
    with pytest.raises(ConfigError, match=r"^recursors: .* own DNS server; allowed: "):
        refuse_own_dns_among_recursors(settings)


def test_the_three_ports_must_differ():
    with pytest.raises(ConfigError, match="three different ports"):
        load_settings({"peer_port": 8500}, ENV)


def test_at_another_port_what_was_given_stays_and_the_rest_moves():
    moved = at_port(load_settings({"dns_port": 53}, ENV), 8507, ENV)
    assert (moved.listen.port, moved.peer_port, moved.dns_port) == (8507, 8307, 53)
    assert moved.data_dir == Path("/home/ada/.local/share/hstore/8507")
    assert at_port(load_settings({"data_dir": "/d"}, ENV), 8507, ENV).data_dir == Path("/d")


def test_where_to_look_is_read_with_commas_or_as_a_list_each_with_its_default_port(tmp_path):
    config = write_config(tmp_path, '[discovery]\nhosts = ["db1", "10.0.0.2:9000"]\nmdns = false\n')
    env = ENV | {"HSTORE_DNS": "10.0.0.53, [::1]:8600,::1"}
    discovery = load_settings(config, env).discovery
    assert discovery.hosts == (("db1", 8500), ("10.0.0.2", 9000))
    assert discovery.dns == (("10.0.0.53", 53), ("::1", 8600), ("::1", 53))
    assert not discovery.mdns
    env["HSTORE_DISCOVERY_HOSTS"] = "db3"
    assert load_settings(config, env).discovery.hosts == (("db3", 8500),)


def test_a_node_that_is_named_by_its_address_is_one_of_the_hosts():
    hosts = load_settings({}, ENV | {"HSTORE_HOST": "10.0.0.1:8500"}).discovery.hosts
    assert hosts == (("10.0.0.1", 8500),)
    assert load_settings({}, ENV | {"HSTORE_HOST": "n2"}).discovery.hosts == ()


def test_a_search_takes_only_what_it_needs(tmp_path):
    config = write_config(tmp_path, 'cache_mb = "much"\n[discovery]\ndns = ["10.0.0.1"]\n')
    search = load_search({**config, "cluster.zone": "a.example"}, {})
    assert (search.zone, search.discovery.dns) == ("a.example", (("10.0.0.1", 53),))
    assert search.data_dir is None
    assert load_search({}, ENV).data_dir == Path("/home/ada/.local/share/hstore/8500")
    assert load_search({}, ENV | {"HSTORE_DATA_DIR": "/d"}).data_dir == Path("/d")


def test_the_example_file_shows_the_defaults():
    example = Path(__file__).resolve().parents[3] / "configs" / "example.toml"
    shown = load_settings({"config": example}, ENV)
    assert msgspec.structs.replace(shown, given=frozenset()) == load_settings({}, ENV)
    assert {"listen", "cluster.zone", "http.hosts"} <= shown.given


@pytest.mark.parametrize("key", ["listen", "advertise"])
def test_a_host_name_that_does_not_resolve_yet_is_no_wrong_setting(key):
    """The resolver may start after this service, which is then started again; with 2 it is not."""
    with pytest.raises(Refused, match=r"no_such_host\.invalid.*host name that is known") as error:
        load_settings({key: "no_such_host.invalid:1"}, {"HOME": "/h"})
    assert error.value.exit_code == 1


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.ENOENT, 2), (errno.EACCES, 2), (errno.EIO, 1), (errno.EMFILE, 1), (errno.ESTALE, 1)],
)
def test_a_file_that_cannot_be_read_now_is_told_from_one_that_is_not_there(
    number, status, monkeypatch
):
    def refuse(_path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(HstoreError, match="cannot be read") as error:
        load_settings({"config": "/c.toml"}, {"HOME": "/h"})
    assert error.value.exit_code == status
