"""The cookie of a known browser: the subjects that it has verified. It is signed, and the store decides."""

from __future__ import annotations

import secrets

from ..crypto.payloads import Handle, KnownBrowser, Proof
from ..state import AppState
from ..stores.base import KNOWN_BROWSER_FOR
from .cookies import own_name, set_own
from .requests import this_request

_KNOWN_SUBJECTS = 6


def known_browsers(state: AppState) -> list[KnownBrowser]:
    cookies = this_request().cookies
    if not cookies:
        return []
    oldest = (state.clock() - KNOWN_BROWSER_FOR) * 1000
    cookie = cookies.get(own_name(state, "known"))
    return [known for known in state.tokens.load_known(cookie) if known.since > oldest]


def remember(state: AppState, handle: Handle, proof: Proof, bucket: bytes) -> None:
    """Make this browser a known browser of the subject that it has just verified.

    :param handle: of the challenge that was verified. Its subject is already computed.
    """
    tokens = state.tokens
    # Under the current key, even if the challenge is under another one.
    is_present = handle.keys is tokens.keys
    subject = handle.subject if is_present else tokens.keys.subject(proof.purpose, proof.identifier)
    known = known_browsers(state)
    # The bucket stays the same, whatever cookies came with the code: a new bucket would have an unspent failure budget.
    bucket = (
        bucket or next((entry.bucket for entry in known if entry.subject == subject), None) or secrets.token_bytes(8)
    )
    newest = KnownBrowser(subject, bucket, int(proof.verified_at * 1000))
    others = [entry for entry in known if entry.subject != subject]
    set_own(state, "known", tokens.dump_known([newest, *others][:_KNOWN_SUBJECTS]), max_age=KNOWN_BROWSER_FOR)
