"""consul-kv 0.7: keys, prefixes as dictionaries, and the transactions in which it writes them."""

from __future__ import annotations

import urllib.error

from consul_kv import Connection
from harness import fails, main


def client(place):
    return Connection(endpoint=f"http://{place.address}/v1/", timeout=10)


def check_put_and_get(place):
    c = client(place)
    c.put("the/key", "the_value")
    assert c.get("the/key") == {"the/key": "the_value"}


def check_missing_key_is_404(place):
    assert fails(urllib.error.HTTPError, client(place).get, "nothing").code == 404


def check_get_of_a_prefix(place):
    c = client(place)
    c.put("dir/a", "1")
    c.put("dir/b", "2")
    assert c.get("dir", recurse=True) == {"dir/a": "1", "dir/b": "2"}


def check_cas_of_what_is_read(place):
    c = client(place)
    c.put("key/", "1")
    value, version = c.get_cas("key/")["key/"]
    assert value == "1"
    # It writes to `kv/KEY/?cas=`, with a slash of its own behind the key, so the key here has one.
    c.put("key", "2", cas=version)
    assert c.get("key/") == {"key/": "2"}


def check_mapping_in_a_transaction(place):
    c = client(place)
    c.put_mapping({"m/a": "1", "m/b": "2"})
    assert c.get_mapping("m") == {"m/a": "1", "m/b": "2"}
    # `get_meta` cannot be called: what it ends with does not take an argument that it is given.
    versions = {version for _, version in c.get_cas("m", recurse=True).values()}
    assert len(versions) == 1, versions


def check_dictionary_in_a_transaction(place):
    c = client(place)
    tree = {"some": {"key1": "value1", "key2": "value2"}}
    c.put_dict(tree)
    assert c.get_dict("some") == tree


def check_values_of_any_length_in_a_transaction(place):
    c = client(place)
    c.put_mapping({"big": "x" * 100_000, "empty": ""})
    assert c.get("big") == {"big": "x" * 100_000}
    assert c.get("empty") == {"empty": None}


def check_delete(place):
    c = client(place)
    c.put("gone", "1")
    c.delete("gone")
    fails(urllib.error.HTTPError, c.get, "gone")


def check_recursive_delete(place):
    c = client(place)
    # It deletes `kv/dir/?recurse=True`.
    c.put("dir/a", "1")
    c.put("dir/b", "2")
    c.delete("dir", recurse=True)
    assert fails(urllib.error.HTTPError, c.get, "dir", recurse=True).code == 404


if __name__ == "__main__":
    main(globals())
