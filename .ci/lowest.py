"""Print a constraints file with the lowest version that setup.cfg allows of each requirement.

    python .ci/lowest.py               # install_requires and the product's extras
    python .ci/lowest.py test          # these, and the requirements of the extra "test" too

A constraint has no extras and no markers: `celery[redis]>=5.5` becomes `celery==5.5`.
"""

import configparser
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Extras that are tools of this project, not parts of the product.
TOOLS = ("test", "docs")

REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?\s*>=\s*(?P<version>[0-9][0-9a-z.]*)\s*(;.*|,.*)?$"
)


def requirements(text):
    """Yield the name and lowest version of each requirement in a setup.cfg list."""
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("%("):
            continue  # another extra, which is read under its own name
        found = REQUIREMENT.match(line)
        if not found:
            raise SystemExit(f"setup.cfg: {line!r} has no lowest version")
        yield found["name"].lower(), found["version"]


def numbers(version):
    return [int(number) for number in re.findall(r"[0-9]+", version)]


def constraints(wanted=()):
    """Return the lines of the constraints file, with the tools' extras that are wanted."""
    settings = configparser.RawConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = settings["options.extras_require"]
    texts = [settings["options"]["install_requires"]]
    texts += [text for name, text in extras.items() if name not in TOOLS or name in wanted]
    lowest = {}
    for text in texts:
        for name, version in requirements(text):
            lowest[name] = max(lowest.get(name, "0"), version, key=numbers)
    return [f"{name}=={version}" for name, version in sorted(lowest.items())]


if __name__ == "__main__":
    print("\n".join(constraints(sys.argv[1:])))
