"""Limits of a bucket, by a clock of their own: how much may go when, and what a busy store changes."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import botocore.exceptions as boto
import pytest

from dtool_ecs_flows.errors import StoppedError, UnavailableError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import failures, heed, limits
from dtool_ecs_flows.store.limits import BURST, PERIOD, Limits, Pace

BUSY = boto.ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "PutObject")


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(limits, "time", clock)
    return clock


def settings_with(**changes: Any) -> BucketSettings:
    values = {"bucket": "b", "endpoint": "http://127.0.0.1:9", "access_key_id": "a", "secret_access_key": "s"}
    return BucketSettings(**{**values, **changes})


def limits_of(**changes: Any) -> Limits:
    """Limits that no other test has used."""
    settings = settings_with(**changes)
    rates = settings.max_requests_per_second, settings.max_bytes_per_second
    return Limits(settings.bucket, settings.concurrency, *rates)


class TestPace:
    def test_no_more_goes_than_the_rate_says(self, clock: Clock) -> None:
        """In any stretch of time, from the first request on and after a pause."""
        pace, went = Pace(50), []
        for number in range(200):
            pace.wait(1)
            went.append(clock.now)
            if number == 100:
                clock.sleep(30)
        for first, begun in enumerate(went):
            for last in range(first, len(went)):
                assert last - first + 1 <= 50 * (went[last] - begun + BURST) + 1 + 1e-6

    def test_the_rate_is_reached(self, clock: Clock) -> None:
        """What waits all the time goes as fast as it may."""
        pace, begun = Pace(50), clock.now
        for _ in range(501):
            pace.wait(1)
        assert clock.now - begun == pytest.approx(10, abs=BURST + 0.01)

    def test_more_than_a_second_s_share_passes_and_is_paid_afterwards(self, clock: Clock) -> None:
        """A part of 16 MiB at 1 MiB/s goes at once; the next one goes 16 seconds later."""
        pace, begun = Pace(2**20), clock.now
        pace.wait(16 * 2**20)
        assert clock.now == begun
        pace.wait(1)
        assert clock.now - begun == pytest.approx(16, abs=2 * BURST)

    def test_waiting_ends_when_asked_to_stop_and_nothing_is_owed_for_it(self, clock: Clock) -> None:
        """Also in the thread that waits behind another."""
        pace = Pace(1)
        pace.wait(3600)

        def stop() -> None:
            raise StoppedError("stopped")

        begun = clock.now
        with heed(stop), pytest.raises(StoppedError):
            pace.wait(3600)
        pace._turn.acquire()
        with heed(stop), pytest.raises(StoppedError):
            pace.wait(3600)
        pace._turn.release()
        pace.wait(1)
        assert clock.now - begun <= 3600


class TestAtOnce:
    def test_no_more_at_once_than_allowed(self) -> None:
        """Whatever the number of threads; all of them get their turn."""
        shared, inside, most = limits_of(concurrency=3), [], []
        full = threading.Barrier(3, timeout=30)

        def work(number: int) -> int:
            with shared.request():
                inside.append(number)
                most.append(len(inside))
                full.wait()  # goes on only when three are inside
                inside.remove(number)
            return number

        with ThreadPoolExecutor(12) as pool:
            assert sorted(pool.map(work, range(60))) == list(range(60))
        assert max(most) == 3

    def test_one_that_fails_gives_its_place_back(self) -> None:
        """So does one that is interrupted."""
        shared = limits_of(concurrency=1)
        for error in (ValueError, KeyboardInterrupt):
            with pytest.raises(error), shared.request():
                raise error
        with shared.request():
            pass

    def test_waiting_for_a_place_ends_when_asked_to_stop(self) -> None:
        """The request is not made; the place of the other stays its own."""
        shared = limits_of(concurrency=1)

        def stop() -> None:
            raise StoppedError("stopped")

        with shared.request(), heed(stop), pytest.raises(StoppedError), shared.request():
            raise AssertionError("two at once")
        with shared.request():
            pass

    def test_what_carries_no_bytes_does_not_wait_behind_what_does(self, clock: Clock) -> None:
        """A listing passes while a part waits for its share of the bytes."""
        shared = limits_of(max_bytes_per_second="1 KiB", concurrency=1)
        with shared.request(1024 * 1024):
            pass
        begun = clock.now
        with shared.request() as waited:
            assert (clock.now, waited) == (begun, 0)
        with shared.request(1) as waited:
            assert waited > 1000


def slow_down(shared: Limits) -> None:
    with pytest.raises(boto.ClientError), shared.request():
        raise BUSY


def succeed(shared: Limits) -> None:
    with shared.request():
        pass


class TestBusy:
    @pytest.fixture
    def shared(self, clock: Clock) -> Limits:
        shared = limits_of(concurrency=16)
        succeed(shared)
        clock.sleep(10)
        return shared

    def test_half_as_many_at_once_down_to_one(self, shared: Limits, clock: Clock) -> None:
        """Each time that the store still says so a period later."""
        allowed = []
        for _ in range(6):
            slow_down(shared)
            allowed.append(shared._allowed)
            clock.sleep(PERIOD)
        assert allowed == [8, 4, 2, 1, 1, 1]

    def test_also_in_the_first_moments_of_a_machine(self, clock: Clock) -> None:
        """Whose clock begins at 0: no change has been made then."""
        clock.now = 0.0
        shared = limits_of(concurrency=16)
        slow_down(shared)
        assert shared._allowed == 8

    def test_many_answers_at_once_count_as_one(self, shared: Limits, clock: Clock) -> None:
        """All that were under way when the first came, however late theirs comes, and all within a period."""

        def late() -> None:
            with shared.request():
                slow_down(shared)
                slow_down(shared)
                clock.sleep(5 * PERIOD)
                raise BUSY

        with pytest.raises(boto.ClientError):
            late()
        assert shared._allowed == 8

    def test_it_recovers_one_step_a_period(self, shared: Limits, clock: Clock) -> None:
        """Up to the setting and no further, however many requests succeed."""
        slow_down(shared)
        for expected in [*range(9, 17), 16, 16]:
            clock.sleep(PERIOD)
            for _ in range(100):
                succeed(shared)
            assert shared._allowed == expected

    def test_it_is_said_once(self, shared: Limits, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        """When it begins, at INFO."""
        with caplog.at_level(logging.INFO, "dtool_ecs_flows.store"):
            for _ in range(4):
                slow_down(shared)
                clock.sleep(PERIOD)
        said = [record.getMessage() for record in caplog.records if record.name.startswith("dtool_ecs_flows")]
        assert said == ["bucket b is busy: 8 requests at once for now"]

    def test_other_failures_change_nothing(self, shared: Limits) -> None:
        """An error of the server or of the network says nothing about the load."""
        for error in (OSError("gone"), boto.ClientError({"Error": {"Code": "InternalError"}}, "PutObject")):
            with pytest.raises(type(error)), shared.request():
                raise error
        assert shared._allowed == 16


def test_the_time_spent_waiting_for_the_limits_is_not_the_store_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that waited for minutes is still tried again when it fails."""
    monkeypatch.setattr(failures, "FIRST_BUDGET", 0.0)
    attempts = failures.Attempts(succeeded_before=False)
    assert not attempts._may_help(UnavailableError("gone"))
    attempts.waited += 100
    assert attempts._may_help(UnavailableError("gone"))
    assert not attempts._may_help(ValueError())


def test_limits_are_of_the_bucket_not_of_whose_settings_name_it() -> None:
    """Two users with prefixes of their own share what the bucket allows; another endpoint's bucket has its own."""
    one = limits.limits_of(settings_with())
    assert limits.limits_of(settings_with(access_key_id="other", dataset_prefix="u/other")) is one
    assert limits.limits_of(settings_with(endpoint="http://127.0.0.1:8")) is not one
