"""The store for SQL databases."""

from .store import SQLStore as SQLStore
