"""The main job on real data, in one go: create, archive, list, verify, retrieve, compare, analyse and publish.

    python demo/run.py                    # the penguins of the Palmer Archipelago
    python demo/run.py --data FOLDER      # files of your own

It starts an S3 server and Prefect's embedded server, works in a temporary folder, and leaves neither process nor file
behind. Nothing of yours is read or changed: no dtool.json, no Prefect profile.
"""

from __future__ import annotations

import argparse
import atexit
import os
import shutil
import signal
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(description="The main job of dtool-ecs-flows on real data.")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="a folder of yours in place of the penguins")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder, and say where it is")
    parser.add_argument("--verbose", action="store_true", help="show what Prefect logs")
    arguments = parser.parse_args()
    if arguments.data and not arguments.data.is_dir():
        parser.error(f"{arguments.data} is not a folder")

    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="dtool-ecs-flows-demo-"))
    if not arguments.keep:
        # Registered before Prefect registers the stop of its server, so this runs after it.
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    signal.signal(signal.SIGTERM, _leave)  # else no clean-up runs
    signal.signal(signal.SIGINT, _leave)  # a shell starts its background jobs deaf to it
    asked = _Asked()
    _isolate(folder, verbose=arguments.verbose)
    sys.path.insert(0, str(ROOT))  # for the servers of the tests and the flows of the site

    from prefect.exceptions import TerminationSignal

    from demo.screen import Screen
    from demo.story import tell
    from tests.servers import bypass_proxy

    bypass_proxy()
    screen = Screen(asked.check)
    try:
        tell(screen, folder, arguments.data)
        screen.farewell(time.monotonic() - begun, str(folder) if arguments.keep else "")
    except (KeyboardInterrupt, TerminationSignal):  # Prefect makes the second of a SIGTERM while a flow runs
        screen.stopped()
        return 130
    except Exception as error:  # noqa: BLE001  # whatever it is, a reader wants one clear line and a status
        screen.failed(f"{type(error).__name__}: {error}", traceback=arguments.verbose)
        return 1
    return 0


def _isolate(folder: Path, *, verbose: bool) -> None:
    """Let Prefect and dtool live in the folder. Has to come before their import, when they read all this."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_", "DTOOL_"))]:
        del os.environ[name]
    level = "INFO" if verbose else "CRITICAL"
    os.environ |= {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        # The first start on a slow machine passes the default of 20 s.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": level,
        "PREFECT_SERVER_LOGGING_LEVEL": level,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "DTOOL_CACHE_DIRECTORY": str(folder / "cache"),
    }
    for name in ("cache", "datasets", "retrieved"):
        (folder / name).mkdir()


class _Asked:
    """Knows of each SIGINT and SIGTERM, whatever became of the exception that its handler raised.

    One that comes while a library runs a callback of its own may be lost there; while a flow runs, Prefect has its own
    handler.
    """

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)

    def check(self) -> None:
        """Raise `KeyboardInterrupt` where there was one."""
        with suppress(BlockingIOError):
            if {signal.SIGINT, signal.SIGTERM} & set(os.read(self._read, 1000)):
                raise KeyboardInterrupt


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
