"""`python -m tests.servers rgw`, or `rclone`, `samba`, `azurite`: starts a server and says where it is."""

from __future__ import annotations

import argparse
import sys

from tests.servers.model import CAPABILITIES
from tests.servers.supervisor import ServerUnavailableError, supervise

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description="Start a server of throw-away.")
    parser.add_argument("name", choices=sorted([*CAPABILITIES, "samba", "azurite"]))
    parser.add_argument("--json", action="store_true", help="print one line of JSON when it is ready")
    arguments = parser.parse_args()
    try:
        supervise(arguments.name, announce_as_json=arguments.json)
    except ServerUnavailableError as error:
        sys.exit(str(error))
