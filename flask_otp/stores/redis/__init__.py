"""The store for Redis and Valkey."""

from .store import RedisStore as RedisStore
from .store import from_uri as from_uri
