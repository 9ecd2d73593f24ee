"""Real clients of Consul against a cluster of hstore: their own tests, and scripts of ours.

`make clients` runs all of them, one line a client: NAME VERSION: N of M (names of those that failed).
What others wrote is installed or fetched into a folder outside of the repository, and never committed.

`cache.py` is that folder; `outcome.py` is what came of one client; `place.py` runs the clusters and
wipes them; `families.py` lists the clients. `py_consul.py` and `node_consul.py` run the tests of
others, with the files below `files/` in place of their own way of starting Consul; `scripted.py` runs
what stands below `scripts/`; `patroni.py` runs Patroni with PostgreSQL, `counting.py` counts its
requests on their way; `haproxy.py` runs HAProxy before a service;
`http_sd.py` has Prometheus find and scrape the cluster.
"""
