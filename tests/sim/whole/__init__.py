"""Whole nodes on Trio, from a seed: driver, codec, HTTP and storage interface, all but processes.

Where `tests/sim` runs cores, this runs what is around them: `hstore.node.node.Node` with its API
server, on a virtual clock, connections in memory and disks in memory. `scheduler` makes Trio repeat
itself, and lets a node die at any of its steps; `options` says what a run is like; `wires` are the
connections, `hostile` what a member that lies sends on one, `disk` what goes wrong on storage and `rooms` how little there is of it; `member` is
one node and its lives, `flush_thread` its flushes; `promptness` looks whether what must follow does; `clients` speak HTTP and keep a history;
`registrars` register services, `retriers` send that again under one key, as `strangers` do for nodes that are no members, and `onces` judges both;
`watchers` wait for changes of services, `listers` for other names, `resolvers` ask DNS, `targets` are what checks ask,
`catalogs` judges what is shown of all that, and `calm` what is left of it in peace; `faults` strikes; `arranged` brings about what chance seldom does, `impostors` come,
and `disaster` ends some runs with a lost majority; `invariants` watches; `simulation` owns the run;
`runner` runs seeds: `python -m tests.sim.whole --help`, from the root of the project.
"""
