"""The HTTP API and its pages: parse, call, answer."""
