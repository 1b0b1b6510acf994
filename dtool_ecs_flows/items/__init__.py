"""The bytes of one item: where they come from, how they get into a bucket and out of one. Always hashed on their way.

What moves many items at once is above (`datasets`), how a request is made is below (`store`).
"""

from dtool_ecs_flows.items.receiving import receive
from dtool_ecs_flows.items.sending import send
from dtool_ecs_flows.items.sources import ItemSource, file_item, read_file, read_range, stored_items
from dtool_ecs_flows.items.unfinished import Unfinished

__all__ = ["ItemSource", "Unfinished", "file_item", "read_file", "read_range", "receive", "send", "stored_items"]
