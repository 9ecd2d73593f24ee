"""Sockets on Trio, with as few system calls and task switches as they need.

Words. The *poller* watches all sockets with one task. *Lag* is how long one piece of work has kept
every other task waiting. A *flag* wakes one task, however often it is raised.

poller.py   watches many sockets with one task
stream.py   TCP: accept, receive, send
sockets.py  a node's listening sockets, bound before anything else starts
lag.py      the longest stalls of the event loop in the last minute
flag.py     wakes one task, once, however often it is raised

Never here: what the bytes mean.
"""
