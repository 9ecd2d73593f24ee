"""Whether a recorded history is linearizable: the checker, the objects it knows, and the files.

`operation` is the vocabulary and `recorder` collects it while clients are at work; `models` and
`texts` are the objects (a register, a key of hstore, a text that grows), `locks` keys with locks and
transactions over them, and `checker` searches for
an order that explains what clients saw. `jepsen` and `edn` read published files, `files` judges a
folder of them: `make histories DIR=folder`. `made` makes histories for the tests of all this.

Nothing here knows of processes, sockets, Trio or the simulator: what runs a cluster brings its
operations here.
"""
