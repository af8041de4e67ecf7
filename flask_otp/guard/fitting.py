"""Whether a proof matches a guard's requirements. The store decides afterwards and is not asked here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..crypto.context import json_digest
from ..crypto.payloads import Proof
from ..http import session
from ..state import AppState
from ..stores.base import LEEWAY
from .rules import Rule


class Asked(NamedTuple):
    """A rule's values for the current request."""

    context: bytes
    context_values: Any
    identifier: str | None


def asked_by(state: AppState, rule: Rule) -> Asked:
    context_values = rule.context() if rule.context is not None else None
    return Asked(
        # ``None`` from the context function still counts as a context, so a proof without one must not match.
        context=b"" if rule.context is None else json_digest(context_values),
        context_values=context_values,
        identifier=None if rule.identifier is None else state.identifiers.named(rule.identifier()).value,
    )


def fits(state: AppState, proof: Proof, rule: Rule, asked: Asked) -> bool:
    return proof.purpose == rule.purpose and next(_faults(state, proof, rule, asked), None) is None


def why_refused(state: AppState, rule: Rule, asked: Asked) -> str:
    """Why the client's first proof was not accepted, for the signal ``guard_decided``."""
    proof = next(iter(session.proofs(state, rule.purpose)), None)
    return "no_proof" if proof is None else next(_faults(state, proof, rule, asked), "ended")


def _faults(state: AppState, proof: Proof, rule: Rule, asked: Asked) -> Iterator[str]:
    now = state.clock()
    identifier = asked.identifier if asked.identifier is not None else state.own_identifier()
    if proof.context != asked.context:
        yield "context"
    if identifier not in (None, proof.identifier):
        yield "identifier"
    if not proof.is_by(rule.channels):
        yield "channel"
    if proof.expires_at <= now or proof.verified_at > now + LEEWAY:
        yield "expired"
    if rule.max_age is not None and now - proof.verified_at > rule.max_age:
        yield "age"
