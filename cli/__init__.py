"""The command line of hstore."""
