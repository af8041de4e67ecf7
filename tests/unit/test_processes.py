"""Values that belong to one process."""

from __future__ import annotations

import os

from flask_otp.processes import PerProcess


class _Interrupted(dict[int, object]):
    """What was made, looked up by a thread that another one overtakes between its look and what it then makes."""

    def __init__(self, values: PerProcess[object]) -> None:
        super().__init__()
        self.values = values
        #: What the thread that overtakes gets.
        self.overtaking: list[object] = []

    def __missing__(self, pid: int) -> object:
        if not self.overtaking:
            self.overtaking.append(None)
            self.overtaking.append(self.values.get())
        raise KeyError(pid)


def test_threads_that_come_first_at_once_get_the_same_value() -> None:
    values = PerProcess(object)
    values._made = made = _Interrupted(values)
    assert values.get() is made.overtaking[-1]
    assert values.get() is made.overtaking[-1]


def test_the_value_of_a_parent_process_is_dropped() -> None:
    values = PerProcess(object)
    inherited = values._made[os.getpid() + 1] = object()
    assert values.get() is not inherited
    assert inherited not in values._made.values()
