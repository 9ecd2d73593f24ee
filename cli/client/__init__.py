"""Talking to one node over HTTP.

api.py          requests and their answers; the only module that knows httpx
server_sent.py  server-sent events from bytes
httpx_alone.py  httpx loaded without the parts nothing here uses
plain.py        text from the network, made harmless to a terminal

Never here: which node to talk to (`search/`).
"""
