"""Stand-ins for what a node is built on, with the faults a test asks for."""
