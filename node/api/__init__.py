"""HTTP/1.1 API of a node."""
