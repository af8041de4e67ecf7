"""Everything derived from ``SECRET_KEY``: codes, keys, and the tokens that clients hold."""
