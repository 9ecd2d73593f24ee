"""A whole cluster of cores in one thread, on simulated time, network and disks; all from a seed.

`options` says what a run is like, `disk`, `network`, `clients` and `faults` are the world around
the cores, `tape` is the seam through which their decisions go, `node` is the driver, `invariants`
watches, `snapshots` brings states from one to the other,
`alone` makes clusters of one of what is left, `simulation` owns the clock and the run, `runner` runs seeds and reports. `python -m tests.sim --help`, from the root of the project.
"""
