"""The fixity audit of a bucket: over some days, every byte of every dataset is read and compared.

`audit_bucket` is all of it. Whoever runs the datasets in tasks of their own takes its steps: `look_at_bucket`,
`audit_dataset` for each that is due, `conclude`.
"""

from dtool_ecs_flows.datasets.audit.history import Place, open_history
from dtool_ecs_flows.datasets.audit.run import (
    CATCH_UP,
    STALE_AFTER_DAYS,
    audit_bucket,
    audit_dataset,
    can_go_on,
    conclude,
    look_at_bucket,
    unread,
)

__all__ = [
    "CATCH_UP",
    "STALE_AFTER_DAYS",
    "Place",
    "audit_bucket",
    "audit_dataset",
    "can_go_on",
    "conclude",
    "look_at_bucket",
    "open_history",
    "unread",
]
