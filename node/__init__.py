"""One hstore node."""
