"""Clients for Redis and Valkey, used by the store and the limits."""
