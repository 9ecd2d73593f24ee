"""Talking to one node over HTTP: the only room that knows httpx.

Words. A *client* asks one node, by one connection. A *reply* is what the node answers, checked and as
plain data. *Plain* text has nothing in it that steers a terminal.

api.py          requests, a method for each
sessions.py     sessions, locks and transactions, a function for each request
catalog.py      services, checks and maintenance, a function for each request
replies.py      what a node answers, as plain data
errors.py       what goes wrong, as errors with an exit status
server_sent.py  server-sent events from bytes
httpx_alone.py  httpx loaded without the parts nothing here uses
plain.py        text from the network, made harmless to a terminal

Never here: which node to talk to (`search/`).
"""
