"""How fast and how big: ``python -m benchmarks`` from the top of the repository. README.md says how to read it."""
