"""Health checks that run on this node: what is due, what runs, what it said, and who hears of it.

Words. A check *runs here* when this member has to run it. A *run* is one request, connection or script
of it. A *verdict* is what one run says; the *status* is what the check says after its thresholds. A
*word* is what a client says of a check with a TTL. The *record* of a check is what the log has of it.

runner.py        which checks run here, as the log has them; begins runs, takes words
schedule.py      what is due when: one heap, one task
runs.py          the runs that are under way
running.py       one check that runs here: thresholds, its TTL, its next run; pure
results.py       what the log has yet to hear: proposes, compares, mends
proposals.py     how results get into the log
words.py         a client's word on its way to the member that keeps the check
probes.py        what runs a check: the protocol, and that of a node
probe_http.py    one HTTP request, and what its answer says
probe_tcp.py     whether something takes a connection
probe_script.py  a program in a process group of its own
requests.py      the requests of HTTP checks, as bytes
connections.py   one new connection to a target, plain or by TLS
targets.py       names become addresses, and `checks.deny` judges each
output.py        what is said, cut to what is kept
verdict.py       what one run says, or would say if its time were over
timeouts.py      how long a run may last

Never here: what a registration means (`state/`), paths of the API, and which member owns which
external node (`cluster/`).
"""
