"""Connections between nodes, and the frames on them.

Words. A *link* is one outgoing connection to a peer. A *frame* is one message on it. A *hello*
opens a connection and names the cluster and the node that dials; a *welcome* answers it. An
*incarnation* is a random number of each process of a node.

links.py              all links of a node, and which peers may connect to it
incoming.py           the receiving side of a connection that a peer made
greeting.py           hello and welcome, at the side that dials
incarnations.py       which process runs each peer, and whether an earlier one still runs
link.py               one outgoing link: dial, hello, send until it breaks
wire.py               frames: what crosses a link, and how it is encoded
frame_check.py        what a member's frames may hold
snapshot_transfer.py  the rules of sending a whole state, without I/O

Never here: a decision about what a message means.
"""
