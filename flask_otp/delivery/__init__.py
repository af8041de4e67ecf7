"""How a message gets from a challenge to a person."""
