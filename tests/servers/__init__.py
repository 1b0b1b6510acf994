"""S3 servers of throw-away: what the tests and the demo run against, and what a developer starts by hand.

    with start("rclone") as server:     # or "rgw"
        server.make_bucket("my-bucket")
        print(server.endpoint)

At a terminal, `python -m tests.servers rgw` starts one and prints its endpoint and keys.

Nothing here needs pytest. A server lives in a process of its own that ends, with all that it started and all that it
stored, when its caller leaves the `with` block or dies, however it dies.
"""

from __future__ import annotations

from tests.servers.here import bypass_proxy
from tests.servers.model import CAPABILITIES, OtherServer, S3Server
from tests.servers.supervisor import ServerUnavailableError, start, start_other

__all__ = ["CAPABILITIES", "OtherServer", "S3Server", "ServerUnavailableError", "bypass_proxy", "start", "start_other"]
