"""The registration key: who writes it, who takes it back, and that a dataset that lost it is not written over."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import dtoolcore
import pytest

from dtool_ecs_flows.errors import AccessDeniedError, AlreadyExistsError, FrozenDatasetError
from dtool_ecs_flows.settings import BucketSettings, active
from dtool_ecs_flows.store import Store
from dtool_ecs_flows.stored import StoredDataset
from tests.conformance.helpers import changed
from tests.independent import Raw, bucket_dataset
from tests.proxy import Answer, Request, proxied

ADMIN = {"name": "penguins", "uuid": "", "creator_username": "olssont", "created_at": 1.5e9}


def admin_of(dataset: StoredDataset) -> dict[str, object]:
    return {**ADMIN, "uuid": dataset.uuid}


def once(
    part: str, answer: Answer, meanwhile: Callable[[], object] = lambda: None
) -> Callable[[Request], Answer | None]:
    """Let something else happen before the first PUT of such a key, and answer that with an error."""
    done: list[Request] = []

    def script(request: Request) -> Answer | None:
        if request.method != "PUT" or part not in request.target or done:
            return None
        done.append(request)
        meanwhile()
        return answer

    return script


def test_a_frozen_dataset_that_lost_its_registration_key_is_not_written_over(bucket: BucketSettings) -> None:
    """It lies where a new one would: that is noticed before anything is written, and nothing is taken away."""
    raw = Raw(bucket)
    dataset = StoredDataset(Store(bucket), bucket_dataset(raw, {"a": b"1"}))
    raw.delete(f"dtool-{dataset.uuid}")
    before = raw.state()

    with pytest.raises(FrozenDatasetError):
        dataset.create(admin_of(dataset))

    assert raw.state() == before


def test_what_another_process_has_taken_up_is_not_taken_back(bucket: BucketSettings) -> None:
    """Of two that make the same dataset at once, the one that fails leaves what the other needs."""
    raw, name = Raw(bucket), str(uuid.uuid4())
    other = StoredDataset(Store(bucket), name)
    with proxied(bucket.endpoint) as proxy:
        this = StoredDataset(Store(changed(bucket, endpoint=proxy.endpoint)), name)
        denied = Answer(403, "AccessDenied")
        proxy.on().call(once("structure.json", denied, lambda: other.create(admin_of(other))))
        with pytest.raises(AccessDeniedError):
            this.create(admin_of(this))

    keys = [f"dtool-{name}", f"{name}/README.txt", f"{name}/dtool", f"{name}/structure.json"]
    assert sorted(raw.listed()) == sorted(keys)


def test_what_nobody_else_has_taken_up_is_taken_back(bucket: BucketSettings) -> None:
    """A dataset that could not be begun leaves nothing behind."""
    with proxied(bucket.endpoint) as proxy:
        this = StoredDataset(Store(changed(bucket, endpoint=proxy.endpoint)), str(uuid.uuid4()))
        proxy.on().call(once("README.txt", Answer(403, "AccessDenied")))
        with pytest.raises(AccessDeniedError):
            this.create(admin_of(this))

    assert Raw(bucket).listed() == []


@pytest.mark.parametrize("part", ["structure.json", "README.txt", "dtool"])
def test_what_dtoolcore_could_not_begin_is_taken_back(bucket: BucketSettings, part: str) -> None:
    """It makes structure and administrative metadata in two calls; whichever fails, nothing is left behind."""
    with proxied(bucket.endpoint) as proxy, active(changed(bucket, endpoint=proxy.endpoint)):
        proxy.on("PUT", key=f"*/{part}").answer(403, "AccessDenied")
        with pytest.raises(AccessDeniedError, match=f"/{part}"):
            dtoolcore.create_proto_dataset("penguins", bucket.base_uri)

    assert Raw(bucket).listed() == []


def test_what_another_process_has_frozen_meanwhile_stays_frozen(rgw_bucket: BucketSettings) -> None:
    """The first administrative metadata is put where there is none, so it takes no place that was taken meanwhile."""
    raw, name = Raw(rgw_bucket), str(uuid.uuid4())
    frozen = b'{"type": "dataset"}'

    def freeze(request: Request) -> None:
        if request.method == "PUT" and request.target.endswith("/dtool") and not raw.listed(f"{name}/dtool"):
            raw.put(f"{name}/dtool", frozen)

    with proxied(rgw_bucket.endpoint) as proxy:
        this = StoredDataset(Store(changed(rgw_bucket, endpoint=proxy.endpoint)), name)
        proxy.on().call(freeze)
        this.create(admin_of(this))

    assert raw.get(f"{name}/dtool") == frozen


def test_nothing_is_written_without_a_registration_key(bucket: BucketSettings) -> None:
    """A store that refuses the key as one that exists, and then has none, gets no dataset that nobody could find."""
    with proxied(bucket.endpoint) as proxy:
        this = StoredDataset(Store(changed(bucket, endpoint=proxy.endpoint)), str(uuid.uuid4()))
        proxy.on("PUT", key="*dtool-*").answer(412, "PreconditionFailed")
        with pytest.raises(AlreadyExistsError):
            this.create(admin_of(this))

    assert Raw(bucket).listed() == []
