"""Sockets on Trio, with as few system calls and task switches as they need.

Words. The *poller* watches all sockets with one task. *Lag* is how long the event loop has kept
everybody waiting. A *turn* is one round of that loop. A *flag* wakes the one task that waits for it;
a *change counter* wakes every task that waits for a change.

poller.py          one wake-up for all sockets that have something
stream.py          TCP: accept, receive, send
sockets.py         a node's listening sockets, bound before anything else starts
lag.py             the longest stalls of the event loop in the last minute
flag.py            one waiting task, any number of calls that wake it once
turn.py            how much one turn serves to all clients together, and which request is next
bounded.py         how much a request by httpx takes of its answer, in bytes and in time
change_counter.py  any number of waiting tasks, each for a change it has not seen

Never here: what the bytes mean.
"""
