"""Whether time tells who has an account (R22): ranks of interleaved samples, and leaky sites that they must find.

The quick half counts the work instead, in ``test_enumeration.py``.
``pytest -n0 -m long -s tests/security/test_timing.py`` measures the table of ``docs/protection/accounts.md`` again.
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP
from flask_otp.delivery.background import Background
from flask_otp.delivery.composer import Composer
from tests.support.apps import AppFactory
from tests.support.mannwhitney import shuffled_blocks, u_statistic, z_score

#: By chance, one in 26 million comparisons gets as far, in either direction.
FAR = 5.5
BLOCKS, SIZE = 20, 10

OPEN = {
    "OTP_COOLDOWN": 0,
    "OTP_IP_SEND_LIMIT": None,
    "OTP_IP_VERIFY_LIMIT": None,
    "OTP_SURGE_LIMIT": "1000000/hour",
}
Clock = Callable[[], float]
Deliver = Callable[[Any], None]
_numbers = itertools.count()


# The ranks


def test_all_pairs_are_counted() -> None:
    assert u_statistic([1, 2], [3, 4]) == 4
    assert u_statistic([3, 4], [1, 2]) == 0
    assert u_statistic([1, 2], [1, 2]) == 2
    # Two blocks of two and two: 4 + 4 of 8 pairs, where chance has 4 with a variance of 2 * 2 * 5 / 12 each.
    assert z_score([([1, 2], [3, 4])] * 2) == pytest.approx(4 / (2 * 2 * 2 * 5 / 12) ** 0.5)


def busy_machine(chance: random.Random) -> Callable[[bool], float]:
    """Times with a long tail, on a machine that gets slower and faster, and the same for both."""
    speed = 1.0

    def measure(kind: bool) -> float:
        nonlocal speed
        speed *= chance.choice((0.98, 1, 1.02))
        return speed * (2 + chance.paretovariate(1.1))

    return measure


def false_alarms(runs: int, seed: int) -> list[float]:
    chance = random.Random(seed)
    return [
        z_score(shuffled_blocks(busy_machine(chance), blocks=BLOCKS, size=SIZE, chance=chance)) for _ in range(runs)
    ]


def test_without_a_difference_the_score_is_as_chance_has_it() -> None:
    scores = false_alarms(200, seed=7)
    assert statistics.mean(scores) == pytest.approx(0, abs=0.3)
    assert statistics.stdev(scores) == pytest.approx(1, abs=0.2)
    assert max(map(abs, scores)) < FAR


def test_a_difference_is_seen_through_the_noise() -> None:
    chance = random.Random(7)
    honest = busy_machine(chance)
    blocks = shuffled_blocks(lambda kind: honest(kind) + 2 * kind, blocks=BLOCKS, size=SIZE, chance=chance)
    assert z_score(blocks) > FAR


@pytest.mark.long
def test_twenty_thousand_honest_runs_raise_no_alarm() -> None:
    scores = false_alarms(20_000, seed=1)
    print(
        f"\n20,000 honest runs: mean {statistics.mean(scores):.3f}, deviation {statistics.stdev(scores):.3f}, ", end=""
    )
    print(f"greatest {max(map(abs, scores)):.2f}")
    assert statistics.stdev(scores) == pytest.approx(1, abs=0.03)
    assert max(map(abs, scores)) < FAR


# The site


def make_site(
    make_app: AppFactory, deliver: Deliver = lambda message: None, *, leak: float = 0, pause: float = 0, **config: Any
) -> Flask:
    """Whose name begins with k has an account.

    :param leak: seconds that the app's own loader takes longer for them.
    :param pause: of the background deliveries.
    """

    def load(identifier: str, channel: str) -> str | None:
        if not identifier.startswith("k"):
            return None
        burn(leak)
        return identifier

    otp = OTP()
    otp.recipient_loader(load)
    otp.channel("email")(deliver)
    app = make_app(otp, **OPEN | config)
    app.extensions["otp"].delivery._background = Background(app, workers=1, pause=pause)
    return app


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def stopwatch(app: Flask, verb: str, clock: Clock) -> Callable[[bool], float]:
    """Measure one request of a new person, with or without an account. Nothing else runs at the same time."""
    pool = app.extensions["otp"].delivery._background
    bodies: dict[str, Callable[[str], dict[str, str]]] = {
        "send": lambda who: {"email": who},
        "resend": lambda who: {},
        "verify": lambda who: {"code": "000000"},
    }

    def measure(is_known: bool) -> float:
        who = f"{'uk'[is_known]}{next(_numbers):07}@example.com"
        client = app.test_client()
        if verb != "send":
            assert client.post("/otp/send", json={"email": who}).status_code == 200
        begun = clock()
        client.post(f"/otp/{verb}", json=bodies[verb](who))
        taken = clock() - begun
        pool.wait(10)
        return taken

    return measure


def score(app: Flask, verb: str = "send", clock: Clock = time.perf_counter) -> float:
    measure = stopwatch(app, verb, clock)
    for is_known in [False, True] * 5:
        measure(is_known)
    return z_score(shuffled_blocks(measure, blocks=BLOCKS, size=SIZE, chance=random.Random()))


CLOCKS = {"elapsed": time.perf_counter, "processor": time.thread_time}


@pytest.mark.long
@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("verb", ["send", "resend", "verify"])
def test_r22_time_does_not_tell_who_has_an_account(make_app: AppFactory, verb: str, clock: str) -> None:
    # Within the pause: a delivery just before would leave other caches, and members alone have one.
    found = score(make_site(make_app, pause=Background.PAUSE), verb, CLOCKS[clock])
    print(f"\nhonest, {verb}, {clock}: z = {found:.2f}")
    assert abs(found) < FAR


@pytest.mark.long
def test_r22_a_delivery_that_keeps_the_processor_busy_does_not_show_in_the_request(make_app: AppFactory) -> None:
    found = score(make_site(make_app, lambda message: burn(0.005), pause=Background.PAUSE))
    print(f"\nhonest, send, 5 ms of work in the channel: z = {found:.2f}")
    assert abs(found) < FAR


@pytest.mark.long
def test_without_the_pause_it_would_show(make_app: AppFactory) -> None:
    found = score(make_site(make_app, lambda message: burn(0.02)))
    print(f"\nleaky, send, 20 ms of work in the channel and no pause: z = {found:.2f}")
    assert found > FAR


@pytest.mark.long
def test_a_delivery_within_the_request_is_found_out(make_app: AppFactory) -> None:
    found = score(make_site(make_app, lambda message: time.sleep(0.005), OTP_DELIVERY="inline"))
    print(f"\nleaky, send, 5 ms of delivery inline: z = {found:.2f}")
    assert found > FAR


@pytest.mark.long
def test_a_message_that_is_made_for_members_only_is_found_out(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = Composer._render
    kept = {}

    def render_for_members(self: Composer, handle: Any, recipient: str, message_id: str) -> Any:
        if recipient.startswith("u") and kept:
            return kept[0]
        kept[0] = render(self, handle, recipient, message_id)
        return kept[0]

    monkeypatch.setattr(Composer, "_render", render_for_members)
    found = score(make_site(make_app), clock=time.thread_time)
    print(f"\nleaky, send, no message made for nobody: z = {found:.2f}")
    assert found > FAR


@pytest.mark.long
@pytest.mark.parametrize(("clock", "leaks"), [("elapsed", (1e-3, 2e-3, 5e-3)), ("processor", (1e-4, 2e-4, 4e-4))])
def test_the_power(make_app: AppFactory, clock: str, leaks: tuple[float, ...]) -> None:
    runs = 10
    for leak in leaks:
        found = [score(make_site(make_app, leak=leak), clock=CLOCKS[clock]) for _ in range(runs)]
        caught = sum(score > FAR for score in found)
        print(f"\n{leak * 1000:.1f} ms, {clock}: caught {caught} of {runs}, median z = {statistics.median(found):.1f}")
    assert caught == runs
