"""Sockets on Trio, with as few steps as the kernel needs.

Words. The *poller* watches all sockets with one task. *Lag* is how long the event loop has kept
everybody waiting. A *flag* wakes one task, however often it is raised.

poller.py   one wake-up for all sockets that have something
stream.py   TCP: accept, receive, send
sockets.py  a node's listening sockets, bound before anything else starts
lag.py      the longest stalls of the event loop, of late
flag.py     one wake-up however often it is asked for

Never here: what the bytes mean.
"""
