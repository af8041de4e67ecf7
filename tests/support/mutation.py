"""Measures what the suite notices: the modules that guard a code are changed in one place after the other (mutants).

    python -m tests.support.mutation                  # everything that [mutation] in setup.cfg names: hours
    python -m tests.support.mutation stores/codec.py  # one module

For each module it prints a row of docs/project/mutation.md. It also prints each mutant that survived, unless
tests/support/harmless_mutants.md lists that mutant with a reason. The status is 0 if it printed no such mutant and
at least nine in ten were noticed.
"""

from __future__ import annotations

import gc
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from configparser import RawConfigParser
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import libcst as cst
import pytest
from mutmut.mutation.diff_apply import read_functions_from_index
from mutmut.stats import status_by_exit_code

from tests.support.mutants import Change, applied, change_between, has_plain_functions, lua_mutants, python_mutants

ROOT = Path(__file__).parents[2]
HARMLESS = Path(__file__).with_name("harmless_mutants.md")
PARTS = ("flask_otp", "tests", "docs", "setup.cfg", "pyproject.toml", "README.md", "example_app.py")

#: Seconds that the tests of one mutant may take, beside what they take without it.
PATIENCE = 20
LEAST = 90

CACHE = ROOT / "build" / "types"
#: With what mutmut adds to a module, its types cannot be wholly known; what is left is found in the mutants alone.
MYPY = ["-m", "mypy", "-O", "json", "--no-warn-unused-ignores", "--no-warn-unreachable", "--allow-untyped-decorators"]
MYPY += [f"--disable-error-code={code}" for code in ("no-redef", "has-type", "no-overload-impl")]
RESULTS = {"killed": "killed", "timeout": "timeout", "caught by type check": "mypy"}


class Outcome(NamedTuple):
    change: Change
    #: "mypy", "killed", "timeout" or "survived"
    result: str


def main(names: list[str]) -> int:
    tests = _tests()
    listed = listed_changes(HARMLESS.read_text(encoding="utf-8"))
    rows, failed = [], False
    with TemporaryDirectory() as directory:
        _copy_to(Path(directory))
        for name in names or tests:
            started, counts = time.monotonic(), Counter[str]()
            harmless = {change for module, change in listed if module == name}
            for change, result in _outcomes(name, tests[name], harmless, Path(directory)):
                if change.is_none:
                    continue
                counts[result] += 1
                if result == "survived" and change not in harmless:
                    print(f"not listed, in {name}:\n{change}", flush=True)
                    failed = True
            share = 100 - 100 * counts["survived"] / counts.total()
            failed = failed or share < LEAST
            figures = [counts.total(), *(counts[result] for result in ("mypy", "killed", "timeout", "survived"))]
            run = counts.total() - counts["mypy"]
            shares = [f"{100 - 100 * counts['survived'] / max(run, 1):.1f} %", f"{share:.1f} %"]
            minutes = round((time.monotonic() - started) / 60)
            rows.append("| " + " | ".join(map(str, [f"`{name}`", *figures, *shares, minutes])) + " |")
            print(rows[-1], flush=True)
        os.chdir(ROOT)
    heading = "module | mutants | refused by mypy | killed | timed out | survived | tests | with mypy | minutes"
    print(f"\n| {heading} |\n|" + "---|" * 9)
    print("\n".join(rows))
    return int(failed)


def _tests() -> dict[str, str]:
    """For each module or script, the arguments that select the few tests for it, and after a ``|`` the many."""
    config = RawConfigParser()
    config.read(ROOT / "setup.cfg")
    return {name: tests for names, tests in config["mutation"].items() for name in names.split()}


def listed_changes(page: str) -> set[tuple[str, Change]]:
    """The mutants that tests/support/harmless_mutants.md gives a reason for, with their modules."""
    found = set()
    for module, text in re.findall(r"^### `(.+?)`\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL):
        for block in re.findall(r"```diff\n(.*?)```", text, re.DOTALL):
            for where, lines in re.findall(r"^@@ (\S+)\n((?:[-+] .*\n)+)", block, re.MULTILINE):
                before, after = (
                    tuple(line[2:].strip() for line in lines.splitlines() if line[0] == sign) for sign in "-+"
                )
                found.add((module, Change(where, before, after)))
    return found


def _copy_to(work: Path) -> None:
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, work / part)
    os.chdir(work)
    sys.path[:0] = [str(work), str(work / "tests")]


def _outcomes(name: str, tests: str, harmless: set[Change], work: Path) -> Iterator[Outcome]:
    """Of each mutant. What survives the few tests is tried on the many, unless it is known to be harmless."""
    few, _, many = (shlex.split(part) for part in tests.partition("|"))
    path = work / "flask_otp" / name
    source = path.read_text(encoding="utf-8")
    left = []
    for outcome in _first_outcomes(path, name, few, work):
        if outcome.result == "survived" and many and outcome.change not in harmless and not outcome.change.is_none:
            left.append(outcome.change)
        else:
            yield outcome
    if left:
        yield from _try_each(path, ((change, applied(change, source)) for change in left), many)


def _first_outcomes(path: Path, name: str, tests: list[str], work: Path) -> Iterator[Outcome]:
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".lua":
        yield from _try_each(path, lua_mutants(source), tests)
    else:
        yield from _try_each(path, python_mutants(source), tests)
        if has_plain_functions(source):
            yield from _mutmut(name, tests, work)


# mutmut


def _mutmut(name: str, tests: list[str], work: Path) -> Iterator[Outcome]:
    config = RawConfigParser()
    config.read(ROOT / "setup.cfg")
    config["mutmut"]["only_mutate"] = f"flask_otp/{name}"
    config["mutmut"]["pytest_add_cli_args_test_selection"] = "\n".join(["", *tests])
    config["mutmut"]["type_check_command"] = "\n".join(["", sys.executable, *MYPY, f"flask_otp/{name}"])
    with (work / "setup.cfg").open("w") as file:
        config.write(file)
    shutil.rmtree(work / "mutants", ignore_errors=True)
    with (work / "mutmut.txt").open("w") as output:
        command = [Path(sys.executable).with_name("mutmut"), "run", "--max-children", "1"]
        environment = {**os.environ, "PYTHONPATH": "", "PYTHONSAFEPATH": "1", "MYPY_CACHE_DIR": str(CACHE)}
        ended = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    if ended.returncode:
        raise SystemExit((work / "mutmut.txt").read_text()[-5000:])
    results = json.loads((work / "mutants" / "flask_otp" / f"{name}.meta").read_text())["exit_code_by_key"]
    for key, code in results.items():
        status = status_by_exit_code[code]
        yield Outcome(_mutmuts_change(key, name), RESULTS.get(status, "survived"))


def _mutmuts_change(key: str, name: str) -> Change:
    functions = read_functions_from_index(key, f"flask_otp/{name}")
    assert functions
    return change_between(functions[0].name.value, *map(cst.Module([]).code_for_node, functions))


# What mutmut leaves out


def _try_each(path: Path, mutants: Iterator[tuple[Change, str]], tests: list[str]) -> Iterator[Outcome]:
    original = path.read_text(encoding="utf-8")
    # What is imported here no mutant's process has to import; but whatever is ours, if a part of it is changed.
    if _pytest(["--collect-only", *tests]):
        raise SystemExit(f"for {path.name} there are no such tests: {' '.join(tests)}")
    ours = [] if path.suffix == ".lua" else _own_modules()
    # pytest collects five times over, at each end.
    gc.freeze()
    started = time.monotonic()
    if _in_a_fork(tests, ours, 600):
        raise SystemExit(f"the tests of {path.name} fail without any mutant: {' '.join(tests)}")
    patience = 3 * (time.monotonic() - started) + PATIENCE
    for number, (change, mutated) in enumerate(mutants):
        path.write_text(mutated, encoding="utf-8")
        # Two of one length within a second would be one to the cache of bytecode.
        os.utime(path, (number, number))
        status = _in_a_fork(["-x", *tests], ours, patience)
        yield Outcome(change, {0: "survived", None: "timeout"}.get(status, "killed"))
    path.write_text(original, encoding="utf-8")


def _own_modules() -> list[str]:
    here = os.getcwd()
    return [name for name, module in sys.modules.items() if str(getattr(module, "__file__", "")).startswith(here)]


def _pytest(arguments: list[str]) -> int:
    with open(os.devnull, "w") as null, redirect_stdout(null), redirect_stderr(null):
        return pytest.main(["-q", "-n0", "--tb=no", *arguments])


def _in_a_fork(tests: list[str], forgotten: list[str], seconds: float) -> int | None:
    """The status of pytest in a process of its own; ``None`` if it took too long."""
    child = os.fork()
    if child == 0:
        os.setsid()
        for name in forgotten:
            del sys.modules[name]
        os._exit(_pytest(tests))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
