"""Consul's service files: what each becomes, and what is said of one that is none."""

from __future__ import annotations

import json

import pytest

from hstore.cli.services import files
from hstore.node.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    def run(content, name="web.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return files.read(path)

    return run


def test_a_file_of_consuls_page(read):
    """The members of https://developer.hashicorp.com/consul/docs/services/configuration."""
    found = read(
        {
            "service": {
                "name": "redis",
                "id": "redis1",
                "tags": ["primary"],
                "address": "127.0.0.1",
                "tagged_addresses": {"wan_ipv4": {"address": "198.18.0.53", "port": 80}},
                "meta": {"tagged_addresses": "is no member here"},
                "port": 8000,
                "enable_tag_override": True,
                "weights": {"passing": 5, "warning": 1},
                "check": {
                    "args": ["/usr/local/bin/check_redis.py"],
                    "interval": "10s",
                    "success_before_passing": 3,
                    "failures_before_critical": 3,
                    "deregister_critical_service_after": "90m",
                },
            }
        }
    )
    assert found == [
        {
            "Name": "redis",
            "ID": "redis1",
            "Tags": ["primary"],
            "Address": "127.0.0.1",
            "TaggedAddresses": {"wan_ipv4": {"Address": "198.18.0.53", "Port": 80}},
            "Meta": {"tagged_addresses": "is no member here"},
            "Port": 8000,
            "EnableTagOverride": True,
            "Weights": {"Passing": 5, "Warning": 1},
            "Checks": [
                {
                    "Args": ["/usr/local/bin/check_redis.py"],
                    "Interval": "10s",
                    "SuccessBeforePassing": 3,
                    "FailuresBeforeCritical": 3,
                    "DeregisterCriticalServiceAfter": "90m",
                }
            ],
        }
    ]


def test_a_service_alone_and_the_names_of_the_api(read):
    assert read({"Name": "web", "Port": 80}) == [{"Name": "web", "ID": "web", "Port": 80}]
    http = {"HTTP": "http://a/", "Interval": "1s", "Header": {"x_y": ["z_z"]}}
    assert read({"name": "web", "checks": [http]})[0]["Checks"] == [http]


def test_members_are_read_in_any_case(read):
    assert read({"Service": {"Name": "web", "PORT": 80}}) == read({"name": "web", "port": 80})
    found = read(
        {"SERVICES": [{"name": "a"}], "Check": {"service_id": "a", "id": "c", "ttl": "3s"}}
    )
    assert found[0]["Checks"] == [{"CheckID": "c", "TTL": "3s"}]


def test_checks_beside_the_services_go_to_the_one_they_name(read):
    found = read(
        {
            "services": [{"name": "a"}, {"name": "b", "check": {"ttl": "1s"}}],
            "check": {"service_id": "b", "name": "more", "ttl": "2s"},
            "checks": [{"service_id": "a", "id": "c", "ttl": "3s"}],
        }
    )
    a, b = found
    assert a["Checks"] == [{"CheckID": "c", "TTL": "3s"}]
    assert b["Checks"] == [
        {"CheckID": "service:b", "TTL": "1s"},
        {"CheckID": "more", "Name": "more", "TTL": "2s"},
    ]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", "is not JSON: "),
        ('service {\n  name = "web"\n}', "is HCL: only JSON is read (consul's "),
        ("# web\nservices = []", "is HCL: only JSON is read"),
        ("[]", "is an object with service or services in it, and this is []"),
        ("true", "is an object with service or services in it, and this is True"),
        ("", "is not JSON: "),
        ("\ufeff{}", "is not JSON: "),
        ("{}", "service without a name: Missing service name"),
        ({"services": []}, "there is no service in it"),
        ({"services": [1]}, "a service must be an object, and one is 1"),
        ({"service": {"name": "a", "prot": 1}}, "a service has no member 'prot'; did you mean port?"),
        ({"service": {"name": "a", "check": {"tttl": "1s"}}}, "a check has no member 'tttl'"),
        ({"service": {"name": "a"}, "data_dir": "/x"}, "only services and checks are read"),
        ({"service": {"name": "a", "port": "80"}}, "service a: Request decode failed: "),
        ({"service": {"name": "a", "check": {"ttl": "1"}}}, "service a: Request decode failed: TTL"),
        ({"services": [{"name": "a"}, {"port": 1}]}, "service without a name: Missing service name"),
        ({"service": {"name": "a"}, "check": {"ttl": "1s", "name": "c"}}, "the check c has no service_id"),
        (
            {"service": {"name": "a"}, "check": {"ttl": "1s", "service_id": "b"}},
            "there is no service 'b' in it, which a check names",
        ),
        ({"service": {"name": "a", "connect": {"sidecar_service": {}}}}, "mesh is not supported"),
    ],
)  # fmt: skip
def test_what_is_no_such_file_is_said_with_its_name(read, content, text):
    with pytest.raises(ConfigError) as caught:
        read(content)
    assert text in str(caught.value)
    assert "web.json" in str(caught.value)
    assert ConfigError.exit_code == 2


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        files.read(tmp_path / "none.json")


def test_hcl_is_refused_by_its_name(read):
    with pytest.raises(ConfigError, match="is HCL"):
        read("{}", "web.hcl")


def test_a_word_is_a_file_by_its_ending_or_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web").write_text("{}")
    assert not files.is_file_name("web")
    assert files.is_file_name("./web")
    assert files.is_file_name("web.json")
    assert files.is_file_name("web.hcl")
    assert not files.is_file_name("scope/member")
