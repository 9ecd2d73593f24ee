"""What all scripts share: run their `check_...` functions one after the other, on an empty node.

Runs in a process where only the client's own packages are, so it imports nothing of ours.
"""

from __future__ import annotations

import concurrent.futures
import json
import signal
import sys
import time
import traceback
import urllib.parse
import urllib.request

CHECK_S = 20


class TooLong(BaseException):
    """A check takes too long. Clients catch `TimeoutError` and go on, so it is none."""


def _too_long(_number, _frame):
    raise TooLong(f"did not end within {CHECK_S} s")


class Place:
    """The node that is asked."""

    def __init__(self, address):
        self.address = address
        self.host, _, port = address.rpartition(":")
        self.port = int(port)

    def ask(self, method, path, body=None):
        """Make a request of our own; return its decoded answer, None where there is none."""
        asked = urllib.request.Request(f"http://{self.address}{path}", data=body, method=method)
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def read(self, path):
        """Make a blocking-capable read; return its decoded answer and its index."""
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=CHECK_S) as answer:
            contact = answer.headers["X-Consul-LastContact"]
            assert contact.isdecimal(), contact
            return json.loads(answer.read()), int(answer.headers["X-Consul-Index"])

    def register(self, service_id, name, **more):
        """Register a service with a TTL check that passes."""
        check = {"TTL": "10m", "Status": "passing"}
        body = {"ID": service_id, "Name": name, "Check": check, **more}
        self.ask("PUT", "/v1/agent/service/register", json.dumps(body).encode())

    def deregister(self, service_id):
        """Deregister a service."""
        self.ask("PUT", f"/v1/agent/service/deregister/{urllib.parse.quote(service_id)}")

    def say(self, word, check_id):
        """Say `pass`, `warn` or `fail` of a check, and wait until the catalog shows it.

        A word is taken at once, and is in the catalog some milliseconds later.
        """
        self.ask("PUT", f"/v1/agent/check/{word}/{check_id}")
        status = {"pass": "passing", "warn": "warning", "fail": "critical"}[word]
        path = f"/v1/health/state/{status}"
        found, index = self.read(path)
        while check_id not in {one["CheckID"] for one in found}:
            found, index = self.read(f"{path}?index={index}")

    def woken(self, path, change):
        """Read, change something while the answer is waited for, and return the answer and its index."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(self.read, path)
            change()
            return waiting.result()

    def until(self, look, what, within=5.0):
        """Look again until it is so, as a client does that does not wait for an index."""
        end = time.monotonic() + within
        while not (found := look()):
            assert time.monotonic() < end, f"did not happen in {within:g} s: {what}"
            time.sleep(0.02)  # noqa: TID251 - there is no event for it
        return found

    def wipe(self):
        """Remove all keys, sessions, services, checks and external nodes."""
        for service_id in self.ask("GET", "/v1/agent/services"):
            self.deregister(service_id)
        for check_id in self.ask("GET", "/v1/agent/checks"):
            self.ask("PUT", f"/v1/agent/check/deregister/{urllib.parse.quote(check_id)}")
        members = {one["Name"] for one in self.ask("GET", "/v1/agent/members")}
        for node in {one["Node"] for one in self.ask("GET", "/v1/catalog/nodes")} - members:
            self.ask("PUT", "/v1/catalog/deregister", json.dumps({"Node": node}).encode())
        self.ask("DELETE", "/v1/kv/?recurse")
        for session in self.ask("GET", "/v1/session/list"):
            self.ask("PUT", f"/v1/session/destroy/{session['ID']}")


def aggregated(checks):
    """Return the status of an instance as Consul's Go client makes it (api/health.go, AggregatedStatus).

    Maintenance is known by the ID of its check, and counts for more than all else.
    """
    ids = [check["CheckID"] for check in checks]
    if any(one == "_node_maintenance" or one.startswith("_service_maintenance:") for one in ids):
        return "maintenance"
    order = ["passing", "warning", "critical"]
    return max((check["Status"] for check in checks), key=order.index, default="passing")


def fails(kind, call, *arguments, **named):
    """Assert that a call raises this kind of error, and return the error."""
    try:
        given = call(*arguments, **named)
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {given!r}")


def main(found):
    """Run each `check_` function of a module; say one JSON line each."""
    place = Place(sys.argv[1])
    signal.signal(signal.SIGALRM, _too_long)
    for name, check in list(found.items()):
        if not name.startswith("check_"):
            continue
        place.wipe()
        fault = ""
        signal.alarm(CHECK_S)
        try:
            check(place)
        except (Exception, TooLong) as error:  # noqa: BLE001 - whatever a client raises is the result
            where = traceback.extract_tb(error.__traceback__)
            line = next(
                (f.line for f in reversed(where) if f.filename == check.__code__.co_filename), ""
            )
            fault = f"{type(error).__name__}: {error} at: {line}".replace("\n", " ")[:400]
        finally:
            signal.alarm(0)
        print(json.dumps({"name": name.removeprefix("check_"), "fault": fault}), flush=True)
    place.wipe()
