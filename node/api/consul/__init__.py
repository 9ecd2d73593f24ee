"""The paths of Consul's clients: what each one means.

Words. A *tree* is all keys with a prefix. A *node* is what the catalog has: a member, or an external
node, which a client has registered. Its *number* is what sessions, services and checks know it by. An
*instance* is one service on one node.

status.py      /v1/status, and the root of the API
kv.py          /v1/kv: one key
trees.py       /v1/kv: all keys with a prefix
session.py     /v1/session
txn.py         /v1/txn
event.py       /v1/event
catalog.py     /v1/catalog: the nodes, their services, the datacenter
health.py      /v1/health: services with their checks, and checks
catalog_writes.py  /v1/catalog/register, deregister: nodes that are no members
services.py    /v1/agent/services, service/register, deregister
agent_checks.py  /v1/agent/checks, check/…
agent_health.py  /v1/agent/health: a service in one status
maintenance.py  /v1/agent/maintenance, service/maintenance
coordinate.py  /v1/coordinate
agent.py       /v1/agent: this node, and the members it knows
quorum.py      /v1/operator/raft: who votes
acl.py         /v1/acl, which there is not
instances.py   reads of one service, which catalog.py and health.py have
nodes.py       the catalog's nodes, as handlers name and choose them, and what is on them
place.py       where something is registered, and what is answered where that is refused
by_id.py       answers that are an object with a member for each ID
shown.py       nodes, services and checks as answers show them
`bodies/`      the JSON bodies of registrations

Never here: what several of them have in common in errors, headers, modes and waiting, which is the
dialect (`../dialect/`), or a path of hstore's own, which is a module of `../`.
"""
