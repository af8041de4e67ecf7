"""The store, and what counts for networks and the whole site: shared, lasting, never evicted, out of others' reach."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import redis
from limits.storage import MemoryStorage

from ..stores.memory import MemoryStore
from ..stores.redis import RedisStore
from ..urls import hosts, is_loopback, query
from .finding import Finding, Level, Site

#: Seconds that clocks may differ.
_SKEW = 5
_IN_PRODUCTION = "README, In production; "


def store_answers(site: Site) -> Iterator[Finding]:
    if site.outage is not None:
        yield Finding(
            Level.ERROR,
            f"The store does not answer. The cause: {site.outage}.",
            "Every send and verify is 503, and the guard denies. What is checked in the store was not checked.",
            "See that OTP_STORAGE_URI leads there from this machine; for a database, run flask otp init-db.",
            "OWASP ASVS 5.0 V16.5.2; R37",
        )


def limits_answer(site: Site) -> Iterator[Finding]:
    if site.limits_outage not in (None, site.outage):
        yield Finding(
            Level.ERROR,
            f"The storage of the limits does not answer. The cause: {site.limits_outage}.",
            "Every send and verify is 503. It is that of the app's own Limiter, where it has one.",
            "See that RATELIMIT_STORAGE_URI, or OTP_STORAGE_URI, leads there from this machine.",
            "OWASP ASVS 5.0 V16.5.2; R37",
        )


def memory_store(site: Site) -> Iterator[Finding]:
    if not isinstance(site.store, MemoryStore):
        return
    workers = site.workers
    if workers is not None and workers > 1:
        level, what = Level.ERROR, f"Each of {workers} workers has a store of its own, in its memory."
    elif site.config.get("OTP_STORAGE_URI") is None:
        level, what = Level.WARNING, "OTP_STORAGE_URI is not set: the store is this process's memory."
    else:
        level, what = (
            Level.NOTE,
            "The store is this process's memory. How many processes there are, cannot be seen here.",
        )
    yield Finding(
        level,
        what,
        "A code that one worker sent is unknown to the next, each has its own count of failures, and a restart "
        "forgets them all.",
        "Set OTP_STORAGE_URI to redis://... as soon as there is more than one process.",
        "OWASP ASVS 5.0 V15.4.1; R40",
    )


def limits_in_memory(site: Site) -> Iterator[Finding]:
    if isinstance(site.store, MemoryStore) or not isinstance(site.limits.storage, MemoryStorage):
        return
    yield Finding(
        Level.WARNING,
        "Network limits, channel budgets and the surge limit are counted in each process's memory.",
        "With n workers an attacker has each of them n times.",
        "Give the app's Limiter a storage_uri that all workers share; without a Limiter, keep the store in Redis.",
        "OWASP ASVS 5.0 V6.6.3; R38, R40",
    )


def eviction(site: Site) -> Iterator[Finding]:
    infos = [server.info("memory") for server in _servers(site)]
    evicting = [info for info in infos if info.get("maxmemory_policy") != "noeviction"]
    if not evicting:
        return
    policies = ", ".join(sorted({str(info.get("maxmemory_policy", "unknown")) for info in evicting}))
    full = any(info.get("maxmemory") for info in evicting)
    yield Finding(
        Level.WARNING,
        f"{_of(len(evicting), len(infos))} may evict keys: maxmemory-policy is {policies}.",
        "A count that is evicted is a limit that begins anew, and all of our keys have a TTL, so that volatile-* takes "
        f"them too. maxmemory is {'set' if full else 'not set, so that nothing is evicted until somebody sets it'}.",
        "Set maxmemory-policy noeviction, or give the codes a server of their own.",
        f"{_IN_PRODUCTION}R50",
    )


def persistence(site: Site) -> Iterator[Finding]:
    servers = _servers(site)
    states = [_persistence(server) for server in servers]
    for state, level, what in (
        ("none", Level.WARNING, "keeps nothing on disk"),
        ("snapshots", Level.NOTE, "keeps snapshots only, and would lose the minutes since the last"),
        ("appendfsync no", Level.NOTE, "leaves it to the system when to write (appendfsync no)"),
        ("unknown", Level.NOTE, "does not say what it keeps on disk, and its log is off"),
    ):
        if state in states:
            yield Finding(
                level,
                f"{_of(states.count(state), len(servers))} {what}.",
                "After a restart every failure budget is whole again, and what was verified must be verified again.",
                "Set appendonly yes and appendfsync everysec.",
                f"{_IN_PRODUCTION}R50",
            )


def _persistence(server: redis.Redis) -> str:
    append: Any = server.info("persistence")
    try:
        # One by one: several at once are for Redis 7.
        config: Any = {**server.config_get("save"), **server.config_get("appendfsync")}
    except redis.ResponseError:
        # Those who rent out servers often forbid the question.
        return "append" if append.get("aof_enabled") else "unknown"
    if append.get("aof_enabled"):
        return "appendfsync no" if config.get("appendfsync") == "no" else "append"
    return "snapshots" if config.get("save") else "none"


def clock(site: Site) -> Iterator[Finding]:
    ours = site.state.clock
    apart = 0.0
    for server in _servers(site):
        before: Any = ours()
        seconds, micros = server.time()
        after = ours()
        theirs = seconds + micros / 1e6
        apart = max(apart, before - theirs, theirs - after)
    if apart > _SKEW:
        yield Finding(
            Level.WARNING,
            f"This machine's clock and the store's are {apart:.0f} seconds apart.",
            "Codes, proofs and limits go by the clock of whoever asks: a machine that is ahead ends them early.",
            "Run NTP on all machines.",
            "NIST SP 800-63B-4 3.1.3.2; R03",
        )


def store_tls(site: Site) -> Iterator[Finding]:
    uri = site.settings.storage_uri
    scheme = uri.partition("://")[0]
    away = [host for host in hosts(uri) if not is_loopback(host)]
    if not away or scheme.endswith("unix") or scheme == "memory" or scheme.startswith("sqlite"):
        return
    fault = _tls_fault(scheme, {**query(uri), **_flat(site.settings.storage_options)})
    if fault is not None:
        yield Finding(
            Level.WARNING,
            f"The way to the store {fault}, and the store is on another machine.",
            "Who sits between can set counts back and record proofs of their own.",
            "Use rediss:// for Redis, and sslmode=verify-full, or the driver's like, for a database.",
            "OWASP ASVS 5.0 V12.3.1, V12.3.2",
        )


def _tls_fault(scheme: str, options: dict[str, Any]) -> str | None:
    if scheme.startswith(("redis", "valkey")):
        if not scheme.startswith(("rediss", "valkeys")):
            return "is not encrypted"
        unverified = str(options.get("ssl_cert_reqs", "required")).lower().removeprefix("verifymode.cert_")
        return "is encrypted, but nobody checks the certificate" if unverified in ("none", "optional", "0") else None
    if options.get("sslmode") in ("verify-full", "verify-ca") or any(key.startswith("ssl_") for key in options):
        return None
    return None if "ssl" in options else "is not sure to be encrypted"


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """What SQLAlchemy hands on to the driver counts as if it stood beside."""
    arguments = options.get("connect_args")
    return {**options, **(arguments if isinstance(arguments, dict) else {})}


def _servers(site: Site) -> Sequence[redis.Redis]:
    """Every Redis that has our keys; none where the store is another, or does not answer."""
    return site.store.servers() if isinstance(site.store, RedisStore) and site.is_store_up else []


def _of(count: int, total: int) -> str:
    return "The store" if total == 1 else f"{count} of the store's {total} servers"
