"""Limits for networks, channels and the whole site, and an attacker's odds."""
