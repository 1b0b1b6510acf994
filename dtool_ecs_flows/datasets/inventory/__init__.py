"""The inventory of a bucket: every dataset with its size, who made it and when, as JSON, CSV, Parquet or a page.

`inventory_bucket` takes it, `write_inventory` writes it to a file, and `load_inventory` reads its JSON again.
"""

from dtool_ecs_flows.datasets.inventory.files import FORMATS, Place, check_format, load_inventory, write_inventory
from dtool_ecs_flows.datasets.inventory.report import Inventory, InventoryEntry
from dtool_ecs_flows.datasets.inventory.run import inventory_bucket

__all__ = [
    "FORMATS",
    "Inventory",
    "InventoryEntry",
    "Place",
    "check_format",
    "inventory_bucket",
    "load_inventory",
    "write_inventory",
]
