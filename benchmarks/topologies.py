"""Figures of docs/redis.md: a cluster that hangs, by redis-py's client and by ours; what it costs to wait for replicas.

::

    python -m benchmarks.topologies
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

from flask_otp.redis_clients.uri import connect
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import Clock
from flask_otp.testing.stores import NO_LIMITS, SubjectDriver
from tests.support.servers import Cluster, SentinelTrio, Topology

TIMEOUT = 0.25
THREADS = 20


@contextmanager
def running(topology: Topology) -> Iterator[Topology]:
    try:
        topology.start()
        topology.wait()
        yield topology
    finally:
        for server in topology.servers:
            server.kill()


def seconds_until_all_have_failed(call: Callable[[], object]) -> float:
    def fail() -> None:
        try:
            call()
        except Exception:
            return
        raise AssertionError("it did not fail")

    threads = [threading.Thread(target=fail) for _ in range(THREADS)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - start


def hang(cluster: Cluster) -> None:
    nodes = [
        ClusterNode("127.0.0.1", server.port)  # type: ignore[no-untyped-call]
        for server in cluster.servers[:2]
    ]
    times: dict[str, Any] = {"socket_timeout": TIMEOUT, "socket_connect_timeout": TIMEOUT}
    theirs = RedisCluster(startup_nodes=nodes, retry=Retry(NoBackoff(), 0), **times)
    ours = connect(cluster.uri, times)
    calls: dict[str, Callable[[], object]] = {
        "our client": lambda: ours.exchange("key", ("EVAL", "return 1", 1, "key")),
        "redis-py's RedisCluster": lambda: theirs.eval("return 1", 1, "key"),
    }
    for call in calls.values():
        call()
    for server in cluster.servers:
        server.pause()
    for name, call in calls.items():
        took = seconds_until_all_have_failed(call)
        print(f"all {len(cluster.servers)} nodes hang, {THREADS} threads, with {name}: last answer {took:.2f} s")
    for server in cluster.servers:
        server.resume()


def wait(topology: Topology) -> None:
    options = topology.options | {"socket_timeout": 5}
    plain = RedisStore(topology.uri, "a", options)
    strict = RedisStore(topology.uri, "b", options | {"wait_for_replicas": 1})
    numbers = count()

    def redeem(store: RedisStore) -> float:
        person = SubjectDriver(store, Clock(), NO_LIMITS, subject=b"%016d" % next(numbers))
        opened = person.open()
        start = time.perf_counter()
        person.right(opened)
        return (time.perf_counter() - start) * 1e6

    pairs = [(redeem(plain), redeem(strict)) for _ in range(500)]
    without, waiting = (statistics.quantiles(column, n=4) for column in zip(*pairs, strict=True))
    ratio = statistics.median(second / first for first, second in pairs)
    for name, quartiles in (("as it is", without), ("wait_for_replicas=1", waiting)):
        print(f"redeem, {name}: median {quartiles[1]:.0f} us [{quartiles[0]:.0f}..{quartiles[2]:.0f}]")
    print(f"paired ratio {ratio:.2f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        with running(SentinelTrio(Path(directory))) as trio:
            wait(trio)
        with running(Cluster(Path(directory))) as cluster:
            assert isinstance(cluster, Cluster)
            hang(cluster)


if __name__ == "__main__":
    main()
