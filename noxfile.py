"""What `nox` runs. Each session has a virtual environment of its own; a Python that is missing is skipped.

    nox                  # lint, types, docs, lowest, and the tests on each Python
    nox -s tests-3.12    # the tests on one Python; `nox -s tests-3.12 -- tests/http -n0` passes arguments on
    nox -s nightly       # what takes hours

The Pythons are those of setup.cfg.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "types", "docs", "lowest", "tests"]
nox.options.error_on_missing_interpreters = False

#: The Pythons that setup.cfg claims. tests/docs/test_packaging.py compares the two.
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
#: Tried, and not claimed until all tests have passed there.
UPCOMING = ["3.14"]


@nox.session(python=PYTHONS + UPCOMING)
def tests(session: nox.Session) -> None:
    """All tests but the long ones."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS[0])
def lowest(session: nox.Session) -> None:
    """The tests that need no server, with the lowest versions that setup.cfg allows."""
    constraints = Path(session.create_tmp()) / "lowest.txt"
    lines = session.run("python", ".ci/lowest.py", "test", silent=True)
    constraints.write_text(lines or "", encoding="utf-8")
    session.install("-e", ".[test]", "-c", str(constraints))
    session.run("pytest", "-m", "not server and not long", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Format and lint; `nox -s lint -- --fix` mends what it can."""
    session.install("ruff")
    fix = "--fix" in session.posargs
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Strict mypy."""
    session.install("-e", ".[test]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build; a warning is a failure, and so is a link that leads nowhere."""
    session.install("-e", ".[docs]")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build", *session.posargs)
    session.run("python", "docs/check_site.py", "docs/_build")
    if any(map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))):
        session.run("python", "docs/look_at_site.py", "docs/_build")


@nox.session
def pictures(session: nox.Session) -> None:
    """Draw the pictures of the documentation again, with the Chromium of this machine."""
    session.install("-e", ".[docs]")
    session.run("python", "docs/pictures.py", *session.posargs)


@nox.session
def plots(session: nox.Session) -> None:
    """Draw the plots of the pages from the figures that are kept."""
    session.run("python", "docs/plots.py")


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist and the wheel, and import the wheel in an environment that has nothing else."""
    session.install("build", "twine")
    folder = Path(session.create_tmp())
    dist, clean = folder / "dist", folder / "clean"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist))
    files = sorted(str(path) for path in dist.iterdir())
    session.run("twine", "check", "--strict", *files)
    session.run("python", "-m", "venv", "--clear", str(clean))
    python = str(clean / "bin" / "python")
    [wheel] = (name for name in files if name.endswith(".whl"))
    session.run(python, "-m", "pip", "install", "--quiet", wheel, external=True)
    session.run(python, "-I", "-c", "import flask_otp; print(flask_otp.__version__)", external=True)
    session.log("the files are in %s", dist)


@nox.session
def nightly(session: nox.Session) -> None:
    """The long tests and the mutants: hours."""
    session.run("bash", ".ci/nightly", *session.posargs, external=True)
