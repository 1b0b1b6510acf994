"""A proxy before any S3 server: writes down what is asked, lets go wrong what a test wants, is as strict as ECS.

    with proxied(server) as proxy:
        proxy.on("UploadPart", nth=2).answer(503, "SlowDown")
        ...                          # a client of proxy.endpoint
        assert len(proxy.seen("UploadPart")) == 4

Bytes pass through as they are, unless a rule says otherwise. The Host header, which SigV4 signs, is among them, so
signatures stay valid. Each connection of a client has a connection of its own to the server; bodies stream, and a
server may answer (100 Continue, or an error) before it has seen the end of a body.
"""

from __future__ import annotations

from tests.proxy.ecs import StrictEcs
from tests.proxy.messages import Answer, Request
from tests.proxy.proxy import Proxy, proxied

CountingProxy = Proxy
counting_proxy = proxied
__all__ = ["Answer", "CountingProxy", "Proxy", "Request", "StrictEcs", "counting_proxy", "proxied"]
