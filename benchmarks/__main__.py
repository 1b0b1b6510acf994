"""`python -m benchmarks`: runs the scenarios, prints what it found, and stores it."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import machine, report, running, servers
from benchmarks.measuring import ROOT
from benchmarks.scenarios import SCENARIOS, quick
from tests.servers import bypass_proxy

RESULTS = Path(__file__).with_name("results")
BEGUN = time.monotonic()
SCRATCH = machine.scratch(ROOT / ".cache" / "bench")


def main() -> None:
    """Read the command line, and do what it says."""
    names = [scenario.name for scenario in SCENARIOS]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure this project beside its peers.")
    parser.add_argument("--rounds", type=int, default=0, help="how often each client does everything; by default 5")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"some of the scenarios, of {','.join(names)}")
    parser.add_argument("--clients", default="", metavar="NAMES", help="some of the clients, as the table names them")
    parser.add_argument("--quick", action="store_true", help="next to no data, one round: whether it works")
    parser.add_argument("--server", choices=servers.NAMES, default="rgw", help="what the clients talk to")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "--scratch",
        type=Path,
        default=SCRATCH,
        metavar="FOLDER",
        help=f"where the files are, and go; by default {SCRATCH}",
    )
    arguments = parser.parse_args()
    wanted = arguments.only.split(",") if arguments.only else names
    if unknown := set(wanted) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    scenarios = [each.among(arguments.clients) for each in SCENARIOS if each.name in wanted]
    if arguments.quick:
        scenarios = [quick(each) for each in scenarios]
    bypass_proxy()
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    _say("asking the clients who they are; environments that are missing are made")
    run = report.Run.begin(running.versions(scenarios, arguments.server), rounds, quick=arguments.quick)
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch, ExitStack() as stack:
        bench = running.Bench(Path(scratch), arguments.server, _say, stack)
        for scenario in scenarios:
            if scenario.memory > machine.free_memory():
                _say(f"{scenario.name}: left out, since it needs {scenario.memory / 2**30:.1f} GiB of free memory")
                continue
            run.scenarios.append(bench.run(scenario, rounds))
            print(report.as_text(run.scenarios[-1]), flush=True)
            run.store(arguments.output)  # after each: a run that is cut short leaves what it has
    print(report.targets_as_text(run.scenarios))


def _say(line: str) -> None:
    print(f"{time.monotonic() - BEGUN:6.0f} s  {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
