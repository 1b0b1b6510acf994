"""Datasets in any other dtool store, through the broker that its plugin brings.

What is known of each plugin stands in one table (`manners`): how many threads may use it, which names it cannot hold,
what it gives back wrongly.
"""

from dtool_ecs_flows.datasets.others.brokers import Brokers, uris_below
from dtool_ecs_flows.datasets.others.destination import BrokerDestination
from dtool_ecs_flows.datasets.others.source import BrokerSource, OpenedSource, open_with_broker

__all__ = ["BrokerDestination", "BrokerSource", "Brokers", "OpenedSource", "open_with_broker", "uris_below"]
