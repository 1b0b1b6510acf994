"""The shipped access policy on a bucket, and the settings of a user whom it binds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dtool_ecs_flows.settings import BucketSettings
from tests.independent import Raw

POLICY = Path(__file__).parents[1] / "deployments" / "policies" / "bucket-policy.json"


def as_user(bucket: BucketSettings, user: str) -> BucketSettings:
    """The bucket's settings of a user whose secret is `user-secret`, with the prefix that the policy allows."""
    keys = {"access_key_id": user, "secret_access_key": SecretStr("user-secret")}
    return bucket.model_copy(update={**keys, "dataset_prefix": f"u/{user}/"})


def set_policy(bucket: BucketSettings, user: str, *, comforts: bool, deny: str = "") -> None:
    """Put the shipped policy onto a bucket, for one user; `deny` are keys that this user may not read."""
    text = POLICY.read_text().replace("my-bucket", bucket.bucket).replace("olssont", user)
    policy: dict[str, Any] = json.loads(text)
    if not comforts:
        policy["Statement"] = [s for s in policy["Statement"] if not s["Sid"].startswith("Comfort")]
    if deny:
        principal = policy["Statement"][0]["Principal"]
        resource = f"arn:aws:s3:::{bucket.bucket}/{deny}"
        policy["Statement"].append(
            {"Effect": "Deny", "Principal": principal, "Action": ["s3:GetObject"], "Resource": [resource]}
        )
    Raw(bucket).client.put_bucket_policy(Bucket=bucket.bucket, Policy=json.dumps(policy))
