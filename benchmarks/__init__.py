"""``python -m benchmarks``: how fast and how big. The servers and the proxy are those of the tests."""
