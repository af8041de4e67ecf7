"""Checks of the store and the limits' storage: shared, durable, without eviction, protected by TLS."""

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


def store_answers(site: Site) -> Iterator[Finding]:
    if site.outage is not None:
        yield Finding(
            "store-down",
            Level.ERROR,
            f"The store does not answer. The cause: {site.outage}.",
            "Every send and verify is answered with 503, and guards deny access. Checks of the store did not run.",
            "Make sure that OTP_STORAGE_URI is right and reachable from here; for a database, run flask otp init-db.",
            "OWASP ASVS 5.0 V16.5.2; R37",
        )


def limits_answer(site: Site) -> Iterator[Finding]:
    if site.limits_outage not in (None, site.outage):
        yield Finding(
            "limits-down",
            Level.ERROR,
            f"The limits' storage does not answer. The cause: {site.limits_outage}.",
            "Every send and verify is answered with 503. If the app has a Limiter, its storage is the one used.",
            "Make sure that RATELIMIT_STORAGE_URI, or OTP_STORAGE_URI, is right and reachable from this machine.",
            "OWASP ASVS 5.0 V16.5.2; R37",
        )


def memory_store(site: Site) -> Iterator[Finding]:
    if not isinstance(site.store, MemoryStore):
        return
    workers = site.workers
    if workers is not None and workers > 1:
        level, what = Level.ERROR, f"Each of the {workers} workers has its own store in memory."
    elif site.config.get("OTP_STORAGE_URI") is None:
        level, what = Level.WARNING, "OTP_STORAGE_URI is not set: the store is this process's memory."
    else:
        level, what = (
            Level.NOTE,
            "The store is this process's memory. The number of processes is not known here.",
        )
    yield Finding(
        "memory-store",
        level,
        what,
        "A code sent by one worker is unknown to the others, each worker counts failures separately, and a restart "
        "forgets everything.",
        "Set OTP_STORAGE_URI to redis://... as soon as there is more than one process.",
        "OWASP ASVS 5.0 V15.4.1; R40",
    )


def limits_in_memory(site: Site) -> Iterator[Finding]:
    if isinstance(site.store, MemoryStore) or not isinstance(site.limits.storage, MemoryStorage):
        return
    yield Finding(
        "limits-in-memory",
        Level.WARNING,
        "Network limits, channel budgets and the surge limit are counted in each process's memory.",
        "With n workers, an attacker gets each limit n times.",
        "Give the app's Limiter a storage_uri that all workers share; without a Limiter, use Redis as the store.",
        "OWASP ASVS 5.0 V6.6.3; R38, R40",
    )


def statistics(site: Site) -> Iterator[Finding]:
    if not site.settings.stats or not isinstance(site.limits.storage, MemoryStorage):
        return
    yield Finding(
        "statistics-in-memory",
        Level.WARNING,
        "OTP_STATS is on, and what it counts stays in each process's memory.",
        "flask otp stats is another process: it finds nothing.",
        "Give the app's Limiter a storage_uri that all processes share; without a Limiter, keep the store in Redis.",
    )


def eviction(site: Site) -> Iterator[Finding]:
    infos = [server.info("memory") for server in _servers(site)]
    evicting = [info for info in infos if info.get("maxmemory_policy") != "noeviction"]
    if not evicting:
        return
    policies = ", ".join(sorted({str(info.get("maxmemory_policy", "unknown")) for info in evicting}))
    full = any(info.get("maxmemory") for info in evicting)
    yield Finding(
        "eviction",
        Level.WARNING,
        f"{_of(len(evicting), len(infos))} may evict keys: maxmemory-policy is {policies}.",
        "A limit starts from zero when its count is evicted. All of our keys have a TTL, so volatile-* policies evict "
        f"them too. maxmemory is {'set' if full else 'not set, so nothing is evicted until it is set'}.",
        "Set maxmemory-policy noeviction, or use a separate server for flask_otp.",
        "R50",
    )


def persistence(site: Site) -> Iterator[Finding]:
    servers = _servers(site)
    states = [_persistence(server) for server in servers]
    for state, level, what in (
        ("none", Level.WARNING, "keeps nothing on disk"),
        ("snapshots", Level.NOTE, "keeps snapshots only, and would lose the changes since the last one"),
        ("appendfsync no", Level.NOTE, "lets the operating system decide when to write (appendfsync no)"),
        ("unknown", Level.NOTE, "does not say what it keeps on disk, and its append-only file is off"),
    ):
        if state in states:
            yield Finding(
                "persistence",
                level,
                f"{_of(states.count(state), len(servers))} {what}.",
                "A restart can reset every failure budget, and users have to verify again.",
                "Set appendonly yes and appendfsync everysec.",
                "R50",
            )


def _persistence(server: redis.Redis) -> str:
    append: Any = server.info("persistence")
    try:
        # One key at a time: several keys in one call need Redis 7.
        config: Any = {**server.config_get("save"), **server.config_get("appendfsync")}
    except redis.ResponseError:
        # Hosted servers often forbid this command.
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
            "clock",
            Level.WARNING,
            f"This machine's clock and the store's are {apart:.0f} seconds apart.",
            "Codes, proofs and limits use the clock of the machine that asks: on a fast clock they end early.",
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
            "store-tls",
            Level.WARNING,
            f"The connection to the store on another machine {fault}.",
            "Anyone on the network path can reset counts and write proofs.",
            "Use rediss:// for Redis, and sslmode=verify-full, or your driver's equivalent, for a database.",
            "OWASP ASVS 5.0 V12.3.1, V12.3.2",
        )


def _tls_fault(scheme: str, options: dict[str, Any]) -> str | None:
    if scheme.startswith(("redis", "valkey")):
        if not scheme.startswith(("rediss", "valkeys")):
            return "is not encrypted"
        unverified = str(options.get("ssl_cert_reqs", "required")).lower().removeprefix("verifymode.cert_")
        return "is encrypted, but the certificate is not checked" if unverified in ("none", "optional", "0") else None
    if options.get("ssl_disabled") or options.get("ssl_context") is False:  # PyMySQL's and pg8000's
        return "is not encrypted"
    is_on = any(value for key, value in options.items() if key.startswith("ssl_"))
    if is_on or options.get("sslmode") in ("verify-full", "verify-ca"):
        return None
    return None if "ssl" in options else "may not be encrypted"


def _flat(options: dict[str, Any]) -> dict[str, Any]:
    """Options that SQLAlchemy passes on to the driver count like top-level ones."""
    arguments = options.get("connect_args")
    return {**options, **(arguments if isinstance(arguments, dict) else {})}


def _servers(site: Site) -> Sequence[redis.Redis]:
    """All Redis servers that hold our keys; empty if the store is not Redis or does not answer."""
    return site.store.servers() if isinstance(site.store, RedisStore) and site.is_store_up else []


def _of(count: int, total: int) -> str:
    return "The store" if total == 1 else f"{count} of the store's {total} servers"
