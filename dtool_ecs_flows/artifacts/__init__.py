"""Reports drawn for the Prefect UI: pure functions from a report to text or rows, and the progress of a task."""

from dtool_ecs_flows.artifacts.audits import audit_headline, audit_markdown, audit_rows
from dtool_ecs_flows.artifacts.drawing import artifact_key, code, literal
from dtool_ecs_flows.artifacts.expiry import expire_headline, expire_markdown, expiring_rows, expiring_summary
from dtool_ecs_flows.artifacts.inventories import inventory_headline, inventory_rows, inventory_summary
from dtool_ecs_flows.artifacts.listings import verify_markdown
from dtool_ecs_flows.artifacts.progress import TaskProgress
from dtool_ecs_flows.artifacts.runs import published_markdown, run_headline, run_markdown

__all__ = [
    "TaskProgress",
    "artifact_key",
    "audit_headline",
    "audit_markdown",
    "audit_rows",
    "code",
    "expire_headline",
    "expire_markdown",
    "expiring_rows",
    "expiring_summary",
    "inventory_headline",
    "inventory_rows",
    "inventory_summary",
    "literal",
    "published_markdown",
    "run_headline",
    "run_markdown",
    "verify_markdown",
]
