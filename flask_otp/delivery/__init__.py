"""Delivers a challenge's message to a person."""
