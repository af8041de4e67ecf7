"""The list of harmless mutants fits the code: an entry for lines that have changed says nothing any more."""

from __future__ import annotations

from pathlib import Path

import flask_otp
from tests.support.mutants import applied
from tests.support.mutation import HARMLESS, listed_changes

PACKAGE = Path(flask_otp.__file__).parent


def test_every_listed_change_can_still_be_made() -> None:
    stale = []
    for module, change in sorted(listed_changes(HARMLESS.read_text(encoding="utf-8"))):
        try:
            applied(change, (PACKAGE / module).read_text(encoding="utf-8"))
        except StopIteration:
            stale.append(f"{module}: {change}")
    assert stale == []
