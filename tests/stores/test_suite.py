"""The suite for stores is worth something: it finds what is wrong with each of many broken ones."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from flask_otp.stores.memory import MemoryStore
from flask_otp.testing.stores.racing import Track
from tests.support.broken_stores import BROKEN, UNSEEN, opens_in_one_process, walk_of, wanted_of

pytestmark = pytest.mark.server

FILE = Path(__file__).parents[1] / "support" / "broken_stores.py"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[str]]:
    """For each suite and test, what its failures say; the empty list: none failed."""
    report = tmp_path_factory.mktemp("suite") / "report.xml"
    wanted = {(f"Test{store.__name__}", test) for store in (MemoryStore, *BROKEN) for test in wanted_of(store)}
    # With what the suite needs and no more: other plugins, and our conftest.py, take as long as all tests.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    options = ["-q", "-o", "addopts=", "-p", "pytest_timeout", "--noconftest", "--tb=native"]
    command = [sys.executable, "-m", "pytest", *options, f"--rootdir={FILE.parent}", f"--junitxml={report}", str(FILE)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 1, result.stdout + result.stderr
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for case in ElementTree.parse(report).iter("testcase"):
        assert case.find("error") is None, ElementTree.tostring(case)
        assert case.find("skipped") is None
        failures = [failure.get("message", "") for failure in case.iter("failure")]
        found[case.attrib["classname"].rpartition(".")[2], case.attrib["name"].partition("[")[0]] += failures
    assert found.keys() == wanted
    return found


@pytest.mark.parametrize("store", BROKEN, ids=lambda store: store.__name__)
def test_a_broken_store_is_found_out(verdicts: dict[tuple[str, str], list[str]], store: type) -> None:
    for test in BROKEN[store]:
        assert verdicts[f"Test{store.__name__}", test], test


@pytest.mark.parametrize("store", [store for store in BROKEN if store not in UNSEEN], ids=lambda store: store.__name__)
def test_a_broken_store_does_not_answer_as_the_memory_store_does(
    verdicts: dict[tuple[str, str], list[str]], store: type[MemoryStore]
) -> None:
    assert verdicts[f"Test{store.__name__}", walk_of(store)]


def test_a_sound_store_passes(verdicts: dict[tuple[str, str], list[str]]) -> None:
    assert not any(failures for (suite, _), failures in verdicts.items() if suite == "TestMemoryStore")


def test_a_failure_says_what_was_compared(verdicts: dict[tuple[str, str], list[str]]) -> None:
    """The asserts of the suite are rewritten, though it is no test module of the one who runs it."""
    [failure] = verdicts["TestMatchesTwice", "test_r05_a_code_passes_once"]
    assert "assert <RedeemOutcome.MATCH: 1> is <RedeemOutcome.REFUSED: 3>" in " ".join(failure.split())


def test_a_store_that_one_process_cannot_open_is_told_at_once_and_spoils_no_later_race() -> None:
    started = time.monotonic()
    race = [("holds", (b"subject", b"proof", 0))] * 8
    with pytest.raises(PermissionError, match="not from here"):
        Track(MemoryStore(), opens_in_one_process, two_processes=True).run(race, threads=4)
    assert Track(MemoryStore(), MemoryStore, two_processes=True).run(race, threads=4) == [False] * 8
    with pytest.raises((AttributeError, pickle.PicklingError), match="local object"):
        Track(MemoryStore(), lambda: MemoryStore(), two_processes=True).run(race)
    # Less time than a thread or a process waits for the others.
    assert time.monotonic() - started < 55
