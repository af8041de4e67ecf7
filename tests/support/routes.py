"""Spares most of what an app costs to make: thousands of tests make one, each with the same routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.routing import Rule


def compile_each_route_once() -> None:
    """Werkzeug writes two functions for a route, and Python compiles them. Those of two equal routes do the same."""
    compiled: dict[Any, Callable[..., Any]] = {}
    original = Rule._compile_builder

    def once(rule: Rule, append_unknown: bool = True) -> Callable[..., Any]:
        if rule.defaults:
            return original(rule, append_unknown)
        key = rule.rule, tuple(rule._trace), append_unknown
        if key not in compiled:
            compiled[key] = original(rule, append_unknown)
        return compiled[key]

    Rule._compile_builder = once
