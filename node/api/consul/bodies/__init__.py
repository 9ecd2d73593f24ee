"""The JSON bodies by which clients register services, checks and nodes: their shapes, and what is refused.

Words. A *shape* is a struct whose members are those that clients send. What a body asks for is made
from it as the commands have it: a `Service`, an `ExternalNode`, a `GivenCheck`.

service_body.py  agent/service/register
check_body.py    agent/check/register and update; the checks of a service
catalog_body.py  catalog/register and deregister
parts.py         names of members; addresses, meta, weights and bounds, in which all have a part

Never here: where something is registered, and anything of the node but whether it runs scripts.
"""
