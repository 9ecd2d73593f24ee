"""The part of the gallery in services around the state: checks and their runs, reads, waits and DNS.

Whole nodes find them, whose clients register services in a part of the runs (`tests/sim/whole/registrars.py`).
Those in the tables of the catalog are in `catalog.py`.
"""

from __future__ import annotations

from .mutant import Mutant

_CACHE = "dns/cache.py"
_CATALOG = "node/api/consul/catalog.py"
_CATALOG_WRITES = "node/api/consul/catalog_writes.py"
_CATALOG_BODY = "node/api/consul/bodies/catalog_body.py"
_CRITICAL = "node/cluster/critical_services.py"
_DNS_LOOKUP = "node/cluster/dns_lookup.py"
_EXCHANGE = "node/api/http/exchange.py"
_HEALTH = "node/cluster/health.py"
_INSTANCES = "node/api/consul/instances.py"
_INTAKE = "node/driver/intake.py"
_MAINTENANCE = "node/api/consul/maintenance.py"
_OWNERS = "node/cluster/check_owners.py"
_PLACE = "node/api/consul/place.py"
_RENDERED = "node/api/rendered.py"
_REQUESTS = "node/driver/requests.py"
_RESULTS = "node/checks/results.py"
_RUNNER = "node/checks/runner.py"
_SESSION_NODES = "node/cluster/session_nodes.py"
_RUNNING = "node/checks/running.py"
_RUNS = "node/checks/runs.py"


def _mutant(name: str, about: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, (), about, ((file, old, new),), layer="B")


_CHECKS = (
    _mutant(
        "checks-ttl-restarted-by-registration",
        "Another definition with the same TTL is a word.",
        _RUNNING,
        "        if is_told or self.ttl_s != ttl_s:\n",
        "        if is_told or ttl_s:\n",
    ),
    _mutant(
        "checks-ttl-is-over-once",
        "A word after its end is not followed by another end.",
        _RUNNER,
        "        if was_over:\n",
        "        if was_over and not running.ttl_s:\n",
    ),
    _mutant(
        "checks-word-that-says-the-same-renews-nothing",
        "A TTL ends though its client says pass.",
        _RUNNER,
        "        running.word_at = trio.current_time()\n        if running.is_over or running.status",
        "        if running.is_over or running.status != status:\n"
        "            running.word_at = trio.current_time()\n        if running.is_over or running.status",
    ),
    _mutant(
        "checks-two-runs-at-once",
        "The next begins before the last has ended.",
        _RUNS,
        "        if running.is_under_way:\n            return\n        room =",
        "        room =",
    ),
    _mutant(
        "checks-first-result-waits-for-threshold",
        "Also the first after a definition.",
        _RUNNING,
        "        self._is_first = is_first\n",
        "        self._is_first = False\n",
    ),
    _mutant(
        "checks-threshold-off-by-one",
        "One failure too few makes a check critical.",
        _RUNNING,
        "if self._is_first or self._bad >= self._critical:",
        "if self._is_first or self._bad + 1 >= self._critical:",
    ),
    _mutant(
        "checks-leave-critical-at-the-first-success",
        "However many are asked for.",
        _RUNNING,
        " or self._good >= self._successes:",
        " or self._good:",
    ),
    _mutant(
        "checks-failures-are-counted-over-successes",
        "Not only those in a row.",
        _RUNNING,
        "            self._good, self._bad = self._good + 1, 0\n",
        "            self._good += 1\n",
    ),
    _mutant(
        "checks-new-definition-is-not-run",
        "Where only the target is another one.",
        _RUNNER,
        "        elif running.defined != check.defined:\n",
        "        elif running.kind != check.definition.kind:\n",
    ),
    _mutant(
        "checks-run-of-old-definition-counts",
        "It was cut short, which looks like a failure.",
        _RUNNER,
        "        if running.defined == defined:\n            running.found",
        "        if running.defined:\n            running.found",
    ),
    _mutant(
        "checks-result-of-old-definition-is-taken-for-logged",
        "It had no effect, and is not proposed again for a minute.",
        _RESULTS,
        "if not has_failed and result.defined == one.defined:\n",
        "if not has_failed:\n",
    ),
)

_READS = (
    _mutant(
        "reads-wait-for-name-only",
        "Changes of the nodes that have the instances wake nobody.",
        _INSTANCES,
        "        found += [Target(NODE_HEALTH, number.to_bytes(8)) for number in numbers]\n",
        "        del numbers\n",
    ),
    _mutant(
        "reads-cached-body-without-index",
        "A body that was made once is good for ever.",
        _RENDERED,
        "            backend.catalog.service_index(self.folded) == self.index\n            and ",
        "            ",
    ),
    _mutant(
        "reads-passing-shares-a-body",
        "With and without `?passing` it is the same.",
        _INSTANCES,
        "for part, name in parts if name not in _NOT_NARROWING)",
        "for part, name in parts if name not in _NOT_NARROWING | {'passing'})",
    ),
    _mutant(
        "reads-passing-keeps-warnings",
        "Only what is critical is left out.",
        _INSTANCES,
        'all(check["Status"] == "passing" for',
        'all(check["Status"] != "critical" for',
    ),
)

_DNS = (
    _mutant(
        "dns-drop-forgets-nodes",
        "What depends on a node stays when that changes.",
        _DNS_LOOKUP,
        "        keys = (service_key(name), *map(number_key, worst))\n",
        "        keys = (service_key(name),)\n",
    ),
    _mutant(
        "dns-drop-leaves-whole-replies",
        "An answer goes, and the replies made from it stay.",
        _CACHE,
        "                self._known_size -= _size_of_replies(self.known.pop(query)[0])\n            for key",
        "                self._known_size -= 0\n            for key",
    ),
    _mutant(
        "dns-shows-instances-of-dead-nodes",
        "Only an instance's own checks count.",
        _DNS_LOOKUP,
        "                status = max(worst[node.number], own)\n",
        "                status = own\n",
    ),
)

_LEADER = (
    _mutant(
        "leader-counts-critical-time-from-its-own-look",
        "A new leader begins it anew.",
        _CRITICAL,
        "        return check.critical_ms + after_ms if after_ms else None\n",
        "        return self._replica.clock.ms + after_ms if after_ms else None\n",
    ),
    _mutant(
        "leader-ends-only-what-became-critical-under-it",
        "It does not look at what was before.",
        _CRITICAL,
        "list(self._keys.numbers_with_critical()) if lead else []",
        "[]",
    ),
    _mutant(
        "leader-does-not-hear-of-critical-checks",
        "It looks when it begins to lead, and never again.",
        _CRITICAL,
        "            self._look_soon(key, GATHER_S)\n",
        "            pass\n",
    ),
    _mutant(
        "leader-knows-only-nodes-that-change",
        "Those from before its time have no owner named.",
        _OWNERS,
        "dict.fromkeys(self._keys.external_numbers()) if lead else {}",
        "{}",
    ),
    _mutant(
        "checks-of-other-nodes-are-run-by-everybody",
        "Whoever owns them.",
        _RUNNER,
        'return definition.kind != "script" and self._keys.owner_of(check.node) == self._facts.id',
        'return definition.kind != "script"',
    ),
    _mutant(
        "sessions-ignore-removed-check",
        "Only one that is critical ends them.",
        _SESSION_NODES,
        'is_bad = record is None or record.status == "critical"',
        'is_bad = record is not None and record.status == "critical"',
    ),
    _mutant(
        "sessions-ignore-checks-of-services",
        "Only serfHealth ends them.",
        _SESSION_NODES,
        "            elif is_bad:\n",
        "            elif not index:\n",
    ),
    _mutant(
        "leader-counts-a-death-from-the-last-refusal",
        "The others dial a dead member again and again, so its instances stay in all answers.",
        _HEALTH,
        "        self._refused.setdefault(peer, trio.current_time())\n",
        "        self._refused[peer] = trio.current_time()\n",
    ),
    _mutant(
        "forwarding-answers-before-applied",
        "The member that was asked does not show it yet.",
        _INTAKE,
        "isinstance(answer, Outcome) and answer.revision > self._applied:",
        "isinstance(answer, Outcome) and answer.revision > self._applied and not answer.ok:",
    ),
    _mutant(
        "another-leader-ends-the-wait-for-what-is-applied-here",
        "The old one has answered in time; this member does not show it yet.",
        _REQUESTS,
        "                self._answer_by.setdefault(rid, by)\n",
        "                request.deadline = min(request.deadline, by)\n",
    ),
)

_WRITES = (
    _mutant(
        "keys-tell-a-member-from-the-next",
        "A registration that is sent again to another member is another request.",
        _PLACE,
        "        return replace(command, place=Place(0))\n",
        "        return command\n",
    ),
    _mutant(
        "keys-tell-a-member-that-ends-maintenance-from-the-next",
        "Only turning it on is the same request at another member.",
        _MAINTENANCE,
        "    known_by = place.known_by(request, query, command)\n",
        "    known_by = None\n",
    ),
    _mutant(
        "keys-tell-a-node-by-its-spelling",
        "A registration that is sent again when its node has gone is another request.",
        _PLACE,
        "fold(where.name).decode()",
        "where.name",
    ),
    _mutant(
        "keys-of-registrations-are-left-out",
        "Only that of a write which does not depend on the member is looked at.",
        _EXCHANGE,
        "        if IDEMPOTENCY_KEY in request.headers:\n            write:",
        "        if IDEMPOTENCY_KEY in request.headers and known_by is None:\n            write:",
    ),
    _mutant(
        "maintenance-of-a-node-passes",
        "Its check is there, and says nothing.",
        _MAINTENANCE,
        '_NODE_NAME, "critical", notes',
        '_NODE_NAME, "passing", notes',
    ),
    _mutant(
        "maintenance-of-a-service-is-that-of-its-node",
        "All that is there is under maintenance.",
        _MAINTENANCE,
        "definition=_MAINTENANCE, service=service_id\n",
        "definition=_MAINTENANCE\n",
    ),
    _mutant(
        "maintenance-ends-at-the-first-look",
        "Turning it on says so, and it is off.",
        _MAINTENANCE,
        "    if is_on:\n        check = GivenCheck(NODE",
        "    if not is_on:\n        check = GivenCheck(NODE",
    ),
    _mutant(
        "catalog-removes-the-node-of-a-check",
        "The ID of the check is left out.",
        _CATALOG_WRITES,
        "Deregister(where, service_id, check_id, is_catalog=True)",
        "Deregister(where, service_id, is_catalog=True)",
    ),
    _mutant(
        "catalog-renews-a-node-that-is-to-stay",
        "`SkipNodeUpdate` is not looked at.",
        _CATALOG_BODY,
        "CatalogRegister(node, found.skip_node_update, service,",
        "CatalogRegister(node, False, service,",
    ),
)

_NAMES = (
    _mutant(
        "names-are-kept-for-ever",
        "The list of all services is made once.",
        _CATALOG,
        "    if kept is not None and kept[0] == index:\n",
        "    if kept is not None:\n",
    ),
    _mutant(
        "names-wake-nobody",
        "Who waits for another name of a service waits until the time is over.",
        _CATALOG,
        '    on = [Target(SERVICE_SET, b"")]\n',
        '    on = [Target(SERVICE_SET, b"other")]\n',
    ),
    _mutant(
        "names-move-with-each-instance",
        "Who waits for another name is answered by any registration.",
        _CATALOG,
        "        return reader.service_set_index(is_narrowed=is_narrowed)\n",
        "        return reader.service_set_index(is_narrowed=True)\n",
    ),
    _mutant(
        "names-on-some-nodes-wait-for-nodes-only",
        "An instance that comes to one of them wakes nobody.",
        _CATALOG,
        '        on += [Target(INSTANCES, b""), _EVERY_NODE]\n',
        "        on += [_EVERY_NODE]\n",
    ),
)

SERVICES = (*_CHECKS, *_READS, *_DNS, *_LEADER, *_WRITES, *_NAMES)
