"""``python -m benchmarks``: how fast and how big. The servers and the proxy are those of the tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
