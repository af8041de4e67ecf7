"""What the faults of test_faults.py do not show: a flow that fails in its middle, a clock that moves, a snapshot."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flask_otp.stores import Attempt, ChallengeRequest, Policy
from flask_otp.testing import Outbox, capture_codes
from tests.support.backends import TIMEOUT, RedisBackend
from tests.support.fault_probes import ATTEMPTS, MESSAGES, Visitor, make_site
from tests.support.faults import HOUR, Site
from tests.support.servers import Server, wait_until

pytestmark = pytest.mark.server

SiteFactory = Callable[..., Site]


@pytest.fixture(scope="module")
def backend(request: pytest.FixtureRequest) -> Iterator[RedisBackend]:
    with ExitStack() as stack:
        yield RedisBackend(request, stack)


@pytest.fixture
def sites(backend: RedisBackend) -> Iterator[SiteFactory]:
    """``sites(**config)``: an app of its own over the server, which is emptied and made well again afterwards."""
    made: list[Site] = []

    def site_with(**config: Any) -> Site:
        made.append(make_site(backend, **config))
        return made[-1]

    yield site_with
    for site in made:
        site.close()
    backend.proxy.resume()
    backend.proxy.keep_replies()
    backend.server.ask("FLUSHALL")


@pytest.fixture
def site(sites: SiteFactory) -> Site:
    return sites()


@pytest.fixture
def outbox(site: Site) -> Iterator[Outbox]:
    with capture_codes(site.app) as codes:
        yield codes


@pytest.fixture
def ann(site: Site, outbox: Outbox) -> Visitor:
    return Visitor(site, outbox)


def statuses(*calls: Callable[[], Any]) -> list[int]:
    return [call().status for call in calls]


def test_r37_a_server_that_hangs_before_it_was_ever_reached_is_given_up_in_time(sites: SiteFactory) -> None:
    best = float("inf")
    for _ in range(3):
        site = sites()
        site.backend.proxy.hang()
        with capture_codes(site.app) as codes:
            start = time.perf_counter()
            assert Visitor(site, codes).send().status == 503
            best = min(best, time.perf_counter() - start)
        site.backend.proxy.resume()
        assert codes == []
    assert TIMEOUT * 0.9 < best < TIMEOUT * 2


# Flows that fail in their middle


def test_a_message_that_the_channels_budget_could_not_be_asked_about_is_given_back(sites: SiteFactory) -> None:
    site = sites(OTP_CHANNEL_BUDGET={"console": "1000/day"})
    with capture_codes(site.app) as codes:
        ann = Visitor(site, codes)
        site.backend.proxy.lose_replies(re.compile(rb"EVAL.*LIMITER\S*/channel/", re.DOTALL))
        assert ann.send().status == 503
        site.backend.proxy.keep_replies()
        assert codes == []
        assert ann.messages_left(Visitor.send) == MESSAGES


def test_r07_a_wrong_code_counts_although_the_surge_could_not_be_counted(site: Site, ann: Visitor) -> None:
    # The first wrong code is for the server to know the script.
    assert statuses(ann.send, ann.wrong) == [200, 400]
    site.backend.proxy.lose_replies(re.compile(rb"EVAL.*surge", re.DOTALL))
    assert ann.wrong().status == 503
    site.backend.proxy.keep_replies()
    assert ann.attempts_left() == ATTEMPTS - 2


def test_r37_a_verification_whose_earlier_one_could_not_be_ended_is_none(site: Site, ann: Visitor) -> None:
    # The log-out is for the server to know the script.
    assert statuses(ann.send, ann.right, lambda: ann.post("logout")) == [200, 200, 204]
    assert statuses(ann.send, ann.right, ann.send) == [200, 200, 200]
    spend = site.app.extensions["otp"].store._scripts["spend"]
    site.backend.proxy.lose_replies(re.compile(spend.sha.encode()))
    assert ann.right().status == 503
    site.backend.proxy.keep_replies()
    assert statuses(lambda: ann.get("/account"), ann.right) == [401, 400]
    assert statuses(ann.send, ann.right, lambda: ann.get("/account")) == [200, 200, 200]


# Clocks


def test_a_clock_that_was_set_back_an_hour_lets_everybody_have_a_new_code_at_once(sites: SiteFactory) -> None:
    site = sites(OTP_COOLDOWN="30s")
    with capture_codes(site.app) as codes:
        ann, bob = Visitor(site, codes), Visitor(site, codes)
        assert statuses(ann.send, bob.send, bob.right) == [200, 200, 200]
        site.clock.now -= HOUR
        assert statuses(ann.right, ann.send, ann.right, lambda: ann.get("/account")) == [400, 200, 200, 200]
        # A signed-in user verifies again, or waits until the clock is where it was.
        assert statuses(lambda: bob.get("/account"), bob.send, bob.right) == [401, 200, 200]


def test_a_browser_that_is_known_stays_so_when_the_clock_is_set_back(site: Site, ann: Visitor, outbox: Outbox) -> None:
    assert statuses(ann.send, ann.right) == [200, 200]
    spend_the_budget(site, ann)
    site.clock.now -= HOUR
    stranger = Visitor(site, outbox)
    stranger.address = ann.address
    assert statuses(stranger.send, ann.send) == [200, 200]
    assert [len(code) for code in ann.codes[1:]] == [13, 6]


def spend_the_budget(site: Site, visitor: Visitor) -> None:
    """Strangers guess until there are no short codes for them any more."""
    state = site.app.extensions["otp"]
    subject = state.tokens.load_handle(visitor.handle).subject
    policy: Policy = state.service._policies["login"]
    now = int(site.clock())
    for number in range(4):
        challenge_id = b"%016d" % number
        state.store.open(subject, ChallengeRequest(challenge_id, b"bucket%d" % number), policy, now)
        for _ in range(ATTEMPTS):
            state.store.redeem(subject, Attempt(challenge_id, False, b"", 0), policy, now)


# What a server keeps


def test_a_server_that_comes_back_from_a_snapshot_knows_nothing_of_what_came_after_it(
    tmp_path: Path, sites: SiteFactory
) -> None:
    """Why docs/operate/faults.md asks for no snapshots: a code that was used since is as good as new."""
    server = Server(tmp_path)
    server.start()
    try:
        wait_until(server.is_up)
        site = sites(OTP_STORAGE_URI=f"redis://127.0.0.1:{server.port}")
        with capture_codes(site.app) as codes:
            ann = Visitor(site, codes)
            ann.send()
            server.ask("SAVE")
            assert statuses(ann.right, ann.right) == [200, 400]
            server.kill()
            server.start()
            wait_until(server.is_up)
            assert statuses(ann.right, ann.right) == [200, 400]
    finally:
        server.kill()
