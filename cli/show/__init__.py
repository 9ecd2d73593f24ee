"""What a cluster looks like to a person.

Words. A *sighting* is the cluster at one moment of a watch.

tables.py   pure functions from facts to rich renderables
listing.py  `list`, once or followed
watch.py    follows a cluster from node to node
screen.py   the terminal of a watch, drawn again at each change

Never here: the requests to nodes (`client/`).
"""
