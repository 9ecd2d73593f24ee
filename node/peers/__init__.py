"""Connections between nodes, and the frames on them.

Words. A *link* is one outgoing connection to a peer. A *frame* is one message on it. A *hello*
opens a connection and names the cluster and the node that dials; a *welcome* answers it.

links.py              all links of a node, and the connections that its peers made to it
link.py               one outgoing link: dial, hello, send until the connection is lost
wire.py               the frames, and how they are encoded
snapshot_transfer.py  the protocol that sends a whole state, without I/O

Never here: a decision about what a message means.
"""
