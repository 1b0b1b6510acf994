"""What can be asked of a bucket without writing into it."""

from __future__ import annotations

from dtool_ecs_flows.doctor.report import Step, skip
from dtool_ecs_flows.errors import AccessDeniedError, CredentialsError, NoSuchBucketError, StoreError
from dtool_ecs_flows.settings import BucketSettings
from dtool_ecs_flows.store import Store
from dtool_ecs_flows.words import plural

FIRST = ("store", "credentials", "bucket", "listing", "clock")
"""The steps that one request answers, all of which the rest needs."""

REST = ("versioning", "unfinished uploads")

SKEW = 60.0
"""Seconds that the clock may be off without a warning; S3 takes 15 minutes."""


def look_at_namespace(settings: BucketSettings) -> Step:
    """Tell whether a namespace is sent."""
    if not settings.namespace:
        return Step(name="namespace", state="ok", found="none is sent: the endpoint or the user decides it")
    return Step(
        name="namespace",
        state="ok",
        found=f"{settings.namespace!r} is sent as x-emc-namespace (from {settings.origin('namespace')}); signed and "
        "public URLs cannot carry it",
    )


def ask(store: Store) -> list[Step]:
    """List one key, and tell from the answer what of the first steps is right."""
    settings = store.settings
    who = f"{settings.access_key_id} (from {settings.origin('access_key_id')})"
    good = [
        Step(name="store", state="ok", found=f"{settings.endpoint} answers as an object store does"),
        Step(name="credentials", state="ok", found=f"the store knows {who} and the secret"),
        Step(name="bucket", state="ok", found=f"{settings.bucket} is there"),
        Step(name="listing", state="ok", found="allowed"),
    ]
    try:
        ahead = store.ahead()
    except StoreError as error:
        failed = next((number for kind, number in _KINDS if isinstance(error, kind)), 0)
        if "RequestTimeTooSkewed" in str(error):
            failed = FIRST.index("clock")
            good[1:] = skip(FIRST[1:failed], "not known while the clock is wrong")
        step = Step(name=FIRST[failed], state="failed", found=str(error), advice=_ADVICE[failed])
        return [*good[:failed], step, *skip(FIRST[failed + 1 :], "not known")]
    off = f"{abs(ahead):.0f} s {'behind' if ahead > 0 else 'ahead of'} the store's"
    if abs(ahead) > SKEW:
        clock = Step(
            name="clock",
            state="warning",
            found=f"this computer's clock is {off}; from 15 minutes on every request is refused",
            advice=_ADVICE[FIRST.index("clock")],
        )
    else:
        clock = Step(name="clock", state="ok", found="right" if abs(ahead) < 2 else off)
    return [*good, clock]


_KINDS = ((CredentialsError, 1), (NoSuchBucketError, 2), (AccessDeniedError, 3))
_ADVICE = (
    "check host and port of the endpoint; where they are right, the store is down, or a proxy answers in its place",
    "have the key pair shown again, or made anew, where you got it; a secret is easily cut short when it is copied",
    "check its name and the endpoint; a user of another namespace does not see it",
    "have the policy allow s3:ListBucket on the bucket: docs/access-policy.md",
    "set the clock, best by a time service: timedatectl set-ntp true",
)


def look_at_versioning(store: Store) -> list[Step]:
    """Tell whether the bucket keeps what is deleted."""
    try:
        state = store.versioning()
    except StoreError as error:
        return skip(["versioning"], _unanswered(error))
    if state != "Enabled":
        return [Step(name="versioning", state="ok", found="off: what is deleted is gone")]
    return [
        Step(
            name="versioning",
            state="warning",
            found="on: what is deleted or written over stays as an old version, and takes room",
            advice="a lifecycle rule of the bucket can remove old versions after some days",
        )
    ]


def look_for_uploads(store: Store) -> list[Step]:
    """Count what earlier uploads left, as far as this user may look."""
    prefix = store.settings.dataset_prefix
    where = f"below {prefix}" if prefix else "in the bucket"
    try:
        found = store.uploads(prefix)
    except StoreError as error:
        return skip(["unfinished uploads"], _unanswered(error))
    if not found:
        return [Step(name="unfinished uploads", state="ok", found=f"none {where}")]
    return [
        Step(
            name="unfinished uploads",
            state="warning",
            found=f"{plural(len(found), 'upload')} {where} not ended; their parts take room and are in no listing",
            advice="copy the same datasets again, which takes them up (or copies under way are meant); a lifecycle "
            "rule can abort those that are older than some days",
            details=tuple(key for key, _ in found[:3]),
        )
    ]


def _unanswered(error: StoreError) -> str:
    return "the policy does not allow to ask" if isinstance(error, AccessDeniedError) else str(error)
