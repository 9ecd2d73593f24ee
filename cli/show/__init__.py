"""What a cluster looks like to a person.

Words. A *sighting* is the cluster at one moment of a watch.

tables.py   pure functions from facts to rich renderables
alarms.py   the alarms of members in words
listing.py  `list`, once or followed
picture.py  a live picture, fitted to the size of a terminal
watch.py    follows a cluster from node to node
feed.py     what that sees, taken by a thread
services.py  services and checks as tables, once or followed
screen.py   the terminal of a watch, drawn again at each change, and its keys

Never here: the requests to nodes (`client/`).
"""
