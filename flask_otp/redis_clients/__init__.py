"""Clients for Redis and Valkey, which the store and the limits share."""
