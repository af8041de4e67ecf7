"""A store whose verbs are timed while a signal has receivers."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from ..errors import OTPError, StoreUnavailable
from ..events import Events
from ..signals import store_called
from .base import Gates, Store

#: All methods that talk to the storage.
VERBS = Store.__abstractmethods__


class _Watched:
    """Wraps a store and sends ``store_called`` for each verb."""

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # For isinstance(): callers need not know whether a store is watched.
        return type(self._store)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._store, name)
        return partial(self._call, name, value) if name in VERBS else value

    def gated(self, gates: Gates) -> Store:
        return watched(self._store.gated(gates), self._events)

    def _call(self, verb: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        began, outcome = time.perf_counter(), "error"
        try:
            answer = function(*args, **kwargs)
            outcome = "done"
            return answer
        except OTPError as error:
            # A gate of the limits may refuse within the verb.
            outcome = "unavailable" if isinstance(error, StoreUnavailable) else "refused"
            raise
        finally:
            self._events.tell(store_called, outcome, step=verb, seconds=time.perf_counter() - began)


def watched(store: Store, events: Events) -> Store:
    """The same store from a caller's point of view."""
    return cast(Store, _Watched(store, events))
