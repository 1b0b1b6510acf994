"""The block of prefect-aws that puts a folder into a bucket."""

from __future__ import annotations

from typing import Any

from prefect_aws import AwsClientParameters, AwsCredentials, S3Bucket

from benchmarks.inside import timing


def up(request: dict[str, Any]) -> dict[str, Any]:
    """Put all files below `folder`."""
    credentials = AwsCredentials(
        aws_access_key_id=request["access_key_id"],
        aws_secret_access_key=request["secret_access_key"],
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(endpoint_url=request["endpoint"]),
    )
    bucket = S3Bucket(bucket_name=request["bucket"], credentials=credentials)
    return {"items": bucket.put_directory(request["folder"])}


if __name__ == "__main__":
    timing.run({"up": up})
