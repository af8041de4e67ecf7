"""The suite, and the fixtures that a store supplies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from ...stores import Store, factory_for
from .. import Clock
from .browsers import BrowserTests
from .budget import BudgetTests
from .checking import CheckingTests
from .clocks import ClockTests
from .opening import OpeningTests
from .proofs import ProofTests
from .races import RaceTests
from .racing import Track
from .random_walk import WalkTests
from .redeeming import RedeemingTests
from .resending import ResendingTests
from .subject_driver import REFUSE, SEND, SubjectDriver
from .undoing import UndoingTests
from .unlocking import UnlockingTests


class StoreSuite(
    OpeningTests,
    ResendingTests,
    RedeemingTests,
    CheckingTests,
    BudgetTests,
    BrowserTests,
    UndoingTests,
    UnlockingTests,
    ProofTests,
    ClockTests,
    WalkTests,
    RaceTests,
):
    """The tests of every store. Inherit from it in a class that pytest collects, and define how to open your store::

        class TestMyStore(StoreSuite):
            @pytest.fixture
            def storage_uri(self, my_server):
                my_server.empty()
                return my_server.uri

    Each test needs an empty store. Instead of ``storage_uri``, a class may define ``connect`` or ``store``.
    """

    #: Whether other processes can open the same store. If not, races run only between threads.
    shared = True

    @pytest.fixture
    def storage_uri(self) -> str:
        """The URI of an empty store."""
        raise NotImplementedError("define how to open your store: a fixture storage_uri, connect or store")

    @pytest.fixture
    def storage_options(self) -> dict[str, Any]:
        """Like ``OTP_STORAGE_OPTIONS``. Use long timeouts: in races, hundreds of threads wait for few cores."""
        return {}

    @pytest.fixture
    def connect(self, storage_uri: str, storage_options: dict[str, Any]) -> Callable[[], Store]:
        """Opens the store, also the same one in another process, so it must be picklable."""
        # The factory itself, because another process has not registered this process's factories.
        return partial(factory_for(storage_uri), storage_uri, "otp", storage_options)

    @pytest.fixture
    def store(self, connect: Callable[[], Store]) -> Iterator[Store]:
        """The store under test. If it is not ``shared``, overriding this fixture is enough."""
        store = connect()
        yield store
        store.close()

    def size_of(self, store: Store) -> int:
        """Bytes of all state in the store."""
        pytest.skip("size_of is not defined, so the test cannot tell whether the state stays small")

    def test_state_stays_small_however_many_networks_get_no_message(
        self, ann: SubjectDriver, store: Store, clock: Clock
    ) -> None:
        """A failed delivery gives its count back, so the recipient's limit does not bound the number of buckets."""
        for number in range(200):
            opened = ann.open(number.to_bytes(8, "big"))
            assert opened.outcome is SEND
            ann.discard(opened)
            clock.advance(1)
        assert self.size_of(store) < 4000

    def test_another_prefix_is_another_store(
        self, request: pytest.FixtureRequest, store: Store, clock: Clock, storage_options: dict[str, Any]
    ) -> None:
        """``OTP_KEY_PREFIX``: apps with one secret key and one server have nothing in common."""
        try:
            uri = request.getfixturevalue("storage_uri")
        except NotImplementedError:
            pytest.skip("storage_uri is not defined, so the test cannot open the store under another prefix")
        other = factory_for(uri)(uri, "another", storage_options)
        other.prepare()
        ann, elsewhere = SubjectDriver(store, clock), SubjectDriver(other, clock)
        try:
            ann.prove(b"proof")
            assert not elsewhere.holds(b"proof")
            assert elsewhere.open().outcome is SEND
            elsewhere.revoke()
            assert ann.holds(b"proof")
        finally:
            other.close()

    # Fixtures of the tests

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock(1_790_000_000)

    @pytest.fixture
    def ann(self, store: Store, clock: Clock) -> SubjectDriver:
        return SubjectDriver(store, clock)

    @pytest.fixture
    def strict(self, store: Store, clock: Clock) -> SubjectDriver:
        """The same subject under ``OTP_ON_BUDGET = "refuse"``."""
        return SubjectDriver(store, clock, REFUSE)

    @pytest.fixture
    def track(self, request: pytest.FixtureRequest, store: Store) -> Track:
        two_processes = request.param == "two-processes"
        connect = request.getfixturevalue("connect") if two_processes else lambda: store
        return Track(store, connect, two_processes)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "track" in metafunc.fixturenames:
            metafunc.parametrize("track", ["threads", "two-processes"] if self.shared else ["threads"], indirect=True)
