"""What the benchmark makes of the times that it took."""

from __future__ import annotations

import pytest

from benchmarks import plot, targets
from benchmarks.results import Outcome, ScenarioResult, Spread
from benchmarks.scenarios import OURS, S5CMD, SCENARIOS


def outcome(client: str, *seconds: float, files: int = 100, rounds: tuple[int, ...] = ()) -> Outcome:
    made = Outcome(client, "up", "files/s", files, files * 4096, 0, files)
    made.seconds, made.cpu_seconds = list(seconds), [0.05 for _ in seconds]
    made.rounds = list(rounds or range(1, len(seconds) + 1))
    return made


def concluded(*outcomes: Outcome) -> ScenarioResult:
    for each in outcomes:
        each.conclude(outcomes[0])
    return ScenarioResult("small", "small files", "rgw", 0, "files/s", outcomes)


def test_rates_are_medians_with_their_range() -> None:
    """One round that was disturbed does not decide."""
    ours = outcome(OURS, 1.0, 10.0, 2.0)
    concluded(ours)
    assert ours.rate == Spread(50.0, 10.0, 100.0)
    assert ours.cpu == Spread(0.5, 0.5, 0.5)
    assert ours.our_ratio is None


def test_ratios_are_taken_round_by_round() -> None:
    """A minute in which the machine was busy hits both sides."""
    peer = outcome(S5CMD, 2.0, 20.0, 4.0)
    concluded(outcome(OURS, 1.0, 10.0, 2.0), peer)
    assert peer.our_ratio == Spread(2.0, 2.0, 2.0)


def test_a_slow_client_with_fewer_files_is_compared_per_file() -> None:
    """Ten files in a second are a tenth of a hundred files in a second."""
    peer = outcome(S5CMD, 1.0, files=10)
    concluded(outcome(OURS, 1.0, files=100), peer)
    assert peer.our_ratio == Spread(10.0, 10.0, 10.0)


def test_a_round_in_which_a_client_failed_is_left_out() -> None:
    """The other rounds still count, each compared with its own."""
    peer = outcome(S5CMD, 2.0, 8.0, rounds=(1, 3))
    concluded(outcome(OURS, 1.0, 1.0, 2.0), peer)
    assert peer.our_ratio == Spread(3.0, 2.0, 4.0)


@pytest.mark.parametrize(("seconds", "verdict"), [(1.3, "met"), (1.1, "not met")])
def test_a_run_says_which_targets_it_met(seconds: float, verdict: str) -> None:
    """Up, small files: 1.2 times as fast as s5cmd."""
    compared = targets.compare([concluded(outcome(OURS, 1.0), outcome(S5CMD, seconds))])
    (target,) = [each for each in compared if each.peer == S5CMD and each.operation == "up"]
    assert target.verdict == verdict
    assert {each.verdict for each in compared if each.peer != S5CMD} == {"not measured"}


def test_every_target_is_of_a_scenario_that_is_measured() -> None:
    """No target is forgotten for a name that is misspelt."""
    scenarios = {each.name: each for each in SCENARIOS}
    for name, operations, peer, _ in targets.TARGETS:
        assert set(operations) <= set(scenarios[name].operations)
        assert peer in scenarios[name].clients
    assert set(plot.SHOWN) <= scenarios.keys()
