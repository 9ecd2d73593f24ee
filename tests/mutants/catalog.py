"""The part of the gallery in services, checks and nodes as the state keeps them.

The layer of cores finds them: in an eighth of its runs most commands are registrations and what
follows from them (`tests/sim/tables/services_draws.py`).
"""

from __future__ import annotations

from .mutant import Mutant

_EXTERNALS = "node/state/catalog/externals.py"
_INDEX = "node/state/catalog/index.py"
_MEMBERS = "node/state/members.py"
_RESULTS = "node/state/catalog/results.py"
_SERVICES = "node/state/catalog/services.py"
_WRITES = "node/state/catalog/writes.py"


def _mutant(name: str, about: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(name, (), about, ((file, old, new),))


CATALOG = (
    _mutant(
        "services-equal-registration-moves-index", "Who waits is woken at each start of a client.",
        _SERVICES, "    if before is None or not is_same(before, after):\n",
        "    if before is None or before.id == after.id:\n",
    ),
    _mutant(
        "services-other-name-keeps-old-entry", "An ID under a name that is new stays under the old one.",
        _WRITES, "        if catalog.by_instance[key] is not name:\n",
        "        if name is not None and catalog.by_instance[key] is not name:\n",
    ),
    _mutant(
        "services-name-index-not-set-by-check", "A change of a check is none of its service.",
        _WRITES, "    touch_name(batch, index, batch.values[CATALOG].by_instance[key])\n",
        "    batch.wakes.append((SERVICES, batch.values[CATALOG].by_instance[key].folded))\n",
    ),
    _mutant(
        "services-check-wakes-nobody", "Who waits for a service goes on waiting.",
        _WRITES, "    batch.values[CATALOG].set_name_index(batch, name, index)\n"
        "    batch.wakes.append((SERVICES, name.folded))\n",
        "    batch.values[CATALOG].set_name_index(batch, name, index)\n",
    ),
    _mutant(
        "services-last-instance-keeps-no-deletion", "The index of a service that is gone falls.",
        _WRITES, "        deletions.keep(batch, SERVICES, index, name.folded)\n", "",
    ),
    _mutant(
        "services-health-index-forgotten-on-serfhealth", "The health of a node is none of its services.",
        _WRITES, "        touch_node(batch, index, check.node, health=True)\n        return\n",
        "        return\n",
    ),
    _mutant(
        "services-tags-count-not-lowered", "A tag stays in the set when the last with it goes.",
        _INDEX, "        is_other = _uncount(name.tags, tags)\n", "        is_other = bool(tags)\n",
    ),
    _mutant(
        "services-removed-node-keeps-checks", "Their records stay when a member goes.",
        _WRITES, "    batch.delete_listed(*_range(CHECK, number), [key for key, _ in checks])\n", "",
    ),
    _mutant(
        "services-status-given-is-ignored", "Registering again keeps the old status, as in Consul.",
        _SERVICES, "        if is_same_kind and not given.status and not is_catalog:\n",
        "        if is_same_kind and not is_catalog:\n",
    ),
    _mutant(
        "services-agent-takes-tags-back", "Those that the catalog has set go with the next start.",
        _SERVICES, "            tags, agent_tags = before.tags, before.agent_tags\n",
        "            tags = known\n",
    ),
    _mutant(
        "services-check-stays-in-old-list", "It is another service's, and both have it.",
        _WRITES,
        "            list_checks(batch, instance_key(after.node, before.service), (), (before.id,))\n",
        "            touch_node(batch, index, after.node, checks=True)\n",
    ),
    _mutant(
        "services-renamed-node-shows-old-name", "Who waits for its checks is not told of the new one.",
        _MEMBERS, "        catalog_writes.touch_shown(batch, index, number)\n", "",
    ),
    _mutant(
        "nodes-made-by-a-registration-stay", "They do not go with their last service.",
        _SERVICES,
        "    if node is None or not node.goes_with_last or number in catalog.services_of:\n",
        "    if node is None or node.goes_with_last or number in catalog.services_of:\n",
    ),
    _mutant(
        "nodes-gone-are-forgotten-by-uuid", "The index of the answer falls.",
        _WRITES, "    nodes.forget_names(batch, index, node.name, node.uuid)\n",
        "    nodes.forget_names(batch, index, node.name)\n",
    ),
    _mutant(
        "nodes-indexes-are-in-memory-only", "After a restart they are lower.",
        _WRITES, "            changed[records.id_key(NODE_INDEXES, number)] = record\n",
        "            pass\n",
    ),
    _mutant(
        "nodes-owners-are-in-memory-only", "After a restart nobody runs their checks.",
        _WRITES, "        batch.put(records.OWNER + key, encode_index(owner))\n", "        pass\n",
    ),
    _mutant(
        "nodes-may-have-one-uuid", "The second one takes it.",
        _EXTERNALS, "    if other is not None and other != number:\n",
        "    if other is not None and other == number:\n",
    ),
    _mutant(
        "checks-result-of-old-definition-counts", "What ran is not compared with what is in the log.",
        _RESULTS, "        if check is None or check.defined != result.defined:\n",
        "        if check is None:\n",
    ),
    _mutant(
        "checks-former-owner-may-write", "Any member says how the checks of an external node are.",
        _RESULTS, '        return kind == "ttl" or catalog.owners.get(check.node) == owner\n',
        "        return True\n",
    ),
    _mutant(
        "checks-critical-since-is-renewed", "Another output begins the time anew.",
        _RESULTS, "        critical_ms = check.critical_ms or max(1, cluster_time.now_ms(batch.values))\n",
        "        critical_ms = max(1, cluster_time.now_ms(batch.values))\n",
    ),
    _mutant(
        "checks-that-pass-again-stay-critical", "In memory, so no session can be made on them.",
        _INDEX, '        _mark(self.critical_of, number, check, status == "critical")\n',
        '        if status == "critical":\n            _mark(self.critical_of, number, check, True)\n',
    ),
    _mutant(
        "leader-deregisters-what-recovered", "What it saw of the check is not compared.",
        _RESULTS, "    if check is None or check.modify_index != command.modify_index:\n",
        "    if check is None:\n",
    ),
)  # fmt: skip
