"""Cases of docs/reliability.md that the store brings with it: old versions, a quota, keys that are replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import dtoolcore
import pytest

from dtool_ecs_flows import BucketSettings, copy_dataset, create_dataset, delete_dataset, list_datasets, verify_dataset
from dtool_ecs_flows.errors import CredentialsError, EcsFlowsError, QuotaExceededError
from dtool_ecs_flows.settings import active
from dtool_ecs_flows.store import failures
from tests.conformance.helpers import changed
from tests.faults.site import ITEMS, LARGE_ONE, ONE_OF_THEM, Site
from tests.independent import MIB, Raw, everything
from tests.proxy import Answer, Request, proxied
from tests.servers import S3Server

pytestmark = pytest.mark.slow


def test_row_25_a_bucket_that_keeps_old_versions(site: Site, tmp_path: Path) -> None:
    """Only what is current counts, in every operation; what is deleted is in no listing, and its versions stay."""
    bucket, client = site.direct, site.raw.client
    client.put_bucket_versioning(Bucket=bucket.bucket, VersioningConfiguration={"Status": "Enabled"})
    (tmp_path / "a.txt").write_text("a")
    with active(bucket):
        made = create_dataset("made", bucket.base_uri, files={"a.txt": tmp_path / "a.txt"}, tags=["raw"])
        there = copy_dataset(site.source, bucket.base_uri)
        dtoolcore.DataSet.from_uri(there.uri).put_readme("---\nof: another hand\n")
        updated = copy_dataset(site.source, bucket.base_uri, update_metadata=True)
        back = copy_dataset(there.uri, str(site.out))

        assert updated.updated == ("README.yml",)
        assert site.is_equal(back.uri)
        assert {info.uri for info in list_datasets(bucket.base_uri).datasets} == {made.uri, there.uri}
        assert verify_dataset(made.uri).findings == verify_dataset(there.uri).findings == ()

        delete_dataset(made.uri, "made")
        delete_dataset(there.uri, "penguins")

        assert list_datasets(bucket.base_uri).datasets == ()
        assert site.raw.listed() == []
        versions = client.list_object_versions(Bucket=bucket.bucket)["Versions"]
        assert len([version for version in versions if "/data/" in version["Key"]]) == len(ITEMS) + 1

        again = copy_dataset(site.source, bucket.base_uri)
        assert again.copied_items == len(ITEMS)
        assert verify_dataset(again.uri).findings == ()


@pytest.mark.parametrize("key", [ONE_OF_THEM, LARGE_ONE, "*/manifest.json"], ids=["small", "large", "manifest"])
def test_row_26_a_quota_runs_out(site: Site, undisturbed: dict[str, bytes], key: str) -> None:
    """Not asked again; the error names bucket and what to do, nothing is frozen, and the same copy again ends well."""
    rule = site.proxy.on("PUT", key=key).answer(403, "QuotaExceeded")

    with pytest.raises(QuotaExceededError, match=f"QuotaExceeded: bucket '{site.direct.bucket}' .* raise the quota"):
        site.copy_in()

    assert rule.fired <= 2  # items are asked for again in the other lane, which tells errors apart
    assert site.is_unfinished()
    site.proxy.calm()
    again = site.copy_in()
    assert again.copied_items + again.skipped == len(ITEMS)
    assert site.objects() == undisturbed


class Tenant:
    """A user of the gateway, and a bucket of theirs."""

    def __init__(self, rgw: S3Server) -> None:
        self.rgw = rgw
        self.uid = f"tenant-{uuid4().hex[:8]}"
        key, secret, name = f"first-{self.uid}", uuid4().hex, f"test-{uuid4()}"
        rgw.add_user(self.uid, key, secret)
        rgw.client(access_key_id=key, secret_access_key=secret).create_bucket(Bucket=name)
        self.bucket = BucketSettings(bucket=name, endpoint=rgw.endpoint, access_key_id=key, secret_access_key=secret)

    def may_hold(self, size: int) -> None:
        """Have the administrator set the bucket's quota, in bytes."""
        scope = (f"--uid={self.uid}", "--quota-scope=bucket", f"--bucket={self.bucket.bucket}")
        self.rgw.administer("quota", "set", *scope, f"--max-size={size}")
        self.rgw.administer("quota", "enable", *scope)

    def rotated(self) -> BucketSettings:
        """Have the administrator put another key in the place of the first; the settings with it."""
        key, secret = f"second-{self.uid}", uuid4().hex
        user = (f"--uid={self.uid}", "--key-type=s3")
        self.rgw.administer("key", "rm", *user, f"--access-key={self.bucket.access_key_id}")
        self.rgw.administer("key", "create", *user, f"--access-key={key}", f"--secret={secret}")
        return changed(self.bucket, access_key_id=key, secret_access_key=secret)


@pytest.fixture
def tenant(rgw: S3Server) -> Tenant:
    """A user whom no other test knows."""
    return Tenant(rgw)


def test_row_26_a_quota_of_the_gateway(site: Site, tenant: Tenant, undisturbed: dict[str, bytes]) -> None:
    """The real one, on the bucket of a user: room for one part, until the administrator raises it."""
    tenant.may_hold(MIB)

    with pytest.raises(QuotaExceededError, match=tenant.bucket.bucket):
        copy_dataset(site.source, tenant.bucket.base_uri, settings=tenant.bucket)

    (left,) = list_datasets(tenant.bucket.base_uri, settings=tenant.bucket).datasets
    assert left.type == "protodataset"
    tenant.may_hold(100 * MIB)
    until_it_works(lambda: copy_dataset(site.source, tenant.bucket.base_uri, settings=tenant.bucket))
    raw = Raw(tenant.bucket)
    assert {key: raw.get(key) for key in raw.listed()} == undisturbed
    assert raw.uploads() == []


def until_it_works(copy: Callable[[], object]) -> None:
    """Copy again and again while the gateway has not heard of a new quota."""
    end = time.monotonic() + 60
    while True:
        try:
            copy()
        except QuotaExceededError:
            assert time.monotonic() < end
            time.sleep(1)
        else:
            return


@pytest.mark.parametrize("way", ["in", "out"])
def test_row_27_keys_are_rotated_meanwhile(site: Site, tenant: Tenant, way: str) -> None:
    """The key is taken away in the middle of a copy: at once an error that names the setting; new keys do the rest."""
    new: list[BucketSettings] = []
    rotated: list[float] = []

    def rotate(_: Request) -> Answer | None:
        new.append(tenant.rotated())
        rotated.append(time.monotonic())
        return None

    source, to = site.source, tenant.bucket.base_uri
    if way == "out":
        source, to = copy_dataset(source, to, settings=tenant.bucket).uri, str(site.out)
    with proxied(tenant.rgw) as proxy:
        through = changed(tenant.bucket, endpoint=proxy.endpoint, concurrency=1)
        proxy.on("*Object", key="*/data/*", nth=5).call(rotate)
        with pytest.raises(CredentialsError, match="InvalidAccessKeyId: check the access key") as caught:
            copy_dataset(source, to, settings=through)
        assert time.monotonic() - rotated[0] < 60 < failures.BUDGET
        refused = [request for request in proxy.requests if request.status == 403]
        assert len(refused) <= 4
    assert_unfinished(to, new[0], caught.value)

    again = copy_dataset(source, to, settings=new[0])

    assert again.skipped >= 3
    assert again.copied_items + again.skipped == len(ITEMS)
    if way == "in":
        assert verify_dataset(again.uri, settings=new[0]).findings == ()
    else:
        assert everything(again.uri) == everything(site.source)


def assert_unfinished(where: str, settings: BucketSettings, error: EcsFlowsError) -> None:
    """Check that nothing is frozen there, and that the error says where the setting is from and not what it is."""
    (left,) = list_datasets(where, settings=settings).datasets
    assert left.type == "protodataset"
    assert "from" in str(error)
    assert settings.secret_access_key.get_secret_value() not in str(error)
