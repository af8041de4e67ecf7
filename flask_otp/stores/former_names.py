"""Names that the store contract had before 0.1.0."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from .base import ChallengeRequest, OpenOutcome, OpenResult, RedeemOutcome, RedeemResult

_FIELDS = {"lane": "bucket", "holder": "session_tag", "known_lane": "known_bucket"}


def _asking(*values: Any, **fields: Any) -> ChallengeRequest:
    return ChallengeRequest(*values, **{_FIELDS.get(name, name): value for name, value in fields.items()})


_NOW: dict[str, tuple[str, Callable[..., Any]]] = {
    "Asking": ("ChallengeRequest", _asking),
    "Opened": ("OpenResult", OpenResult),
    "Opening": ("OpenOutcome", OpenOutcome),
    "Redeemed": ("RedeemResult", RedeemResult),
    "Redemption": ("RedeemOutcome", RedeemOutcome),
}


def find(name: str) -> Any:
    """What ``flask_otp.stores`` answers for a name that it does not have.

    .. deprecated:: 0.1
       These names go with 0.2.

    :raises AttributeError: it never had that name.
    """
    if name not in _NOW:
        raise AttributeError(f"module 'flask_otp.stores' has no attribute {name!r}")
    now, found = _NOW[name]
    warnings.warn(
        f"flask_otp.stores.{name} is called {now}; the old name goes with 0.2", DeprecationWarning, stacklevel=3
    )
    return found
