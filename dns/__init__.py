"""The DNS server of an hstore cluster."""
