"""`doctor` before a real store: what is wrong is found and named, and the bucket is as empty after it as before."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from dtool_ecs_flows import BucketSettings, doctor
from dtool_ecs_flows.cli import main
from dtool_ecs_flows.doctor import Diagnosis, Step, writing
from tests.conformance.helpers import Interrupt, changed, environment
from tests.independent import Raw, bucket_dataset
from tests.policies import as_user, set_policy
from tests.proxy import Proxy, StrictEcs, proxied
from tests.servers import S3Server

Examine = Callable[..., dict[str, Step]]

WRITING = {"PUT", "POST", "DELETE"}


@pytest.fixture
def examine(monkeypatch: pytest.MonkeyPatch) -> Examine:
    """Run `doctor --json` with these settings in the environment; return the steps by their names.

    `status` is what it has to end with. No secret may be shown, whatever happens. That a busy machine is slow is no
    warning.
    """
    monkeypatch.setattr(writing, "SLOW", 60.0)

    def examine(settings: BucketSettings, *options: str, status: int = 0) -> dict[str, Step]:
        more = {"DATASET_PREFIX": settings.dataset_prefix, "VERIFY_TLS": str(settings.verify_tls).lower()}
        more |= {"NAMESPACE": settings.namespace} if settings.namespace else {}
        variables = {f"DTOOL_ECS_{key}_{settings.bucket}": value for key, value in more.items()}
        for key, value in {**environment(settings), **variables}.items():
            monkeypatch.setenv(key, value)
        result = CliRunner().invoke(main, ["doctor", settings.bucket, "--json", *options])
        assert settings.secret_access_key.get_secret_value() not in result.output
        assert result.exit_code == status, result.output
        diagnosis = Diagnosis.model_validate_json(result.stdout)
        assert diagnosis.ok == (status == 0)
        return {step.name: step for step in diagnosis.steps}

    return examine


@pytest.fixture(scope="module")
def proxy(rgw: S3Server) -> Iterator[Proxy]:
    """A proxy before the gateway, for what goes wrong on the way."""
    with proxied(rgw) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def secure(rgw: S3Server) -> Iterator[Proxy]:
    """The gateway over https, with a certificate of an authority of its own."""
    with proxied(rgw, tls=True) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def user(rgw: S3Server) -> str:
    """A user of the gateway whom a policy binds."""
    name = f"olssont-{uuid.uuid4().hex[:8]}"
    rgw.add_user(name, name, "user-secret")
    return name


@pytest.fixture
def behind(rgw_bucket: BucketSettings, proxy: Proxy) -> Iterator[BucketSettings]:
    """A fresh bucket behind that proxy."""
    yield changed(rgw_bucket, endpoint=proxy.endpoint)
    proxy.calm()
    proxy.clear()


def states(steps: dict[str, Step], state: str) -> set[str]:
    return {name for name, step in steps.items() if step.state == state}


def is_empty(bucket: BucketSettings) -> bool:
    raw = Raw(bucket)
    return not raw.listed() and not raw.uploads()


def test_all_is_well(rgw_bucket: BucketSettings, examine: Examine) -> None:
    """Each step is taken and says what it found, settings with where they came from; nothing is left behind."""
    steps = examine(rgw_bucket)

    assert states(steps, "ok") == set(steps) - {"TLS"}
    assert {"put-if-absent", "server-side copy", "large items", "speed", "clean-up"} < steps.keys()
    assert f"(from environment variable DTOOL_ECS_ENDPOINT_{rgw_bucket.bucket})" in steps["settings"].details[0]
    assert is_empty(rgw_bucket)


def test_a_store_that_knows_less(rclone_bucket: BucketSettings, examine: Examine) -> None:
    """What it does not do is a warning: datasets can be kept there all the same."""
    steps = examine(rclone_bucket)

    assert "put-if-absent" in states(steps, "warning")
    assert states(steps, "failed") == set()
    assert Raw(rclone_bucket).listed() == []


def test_what_ecs_refuses_is_not_asked(rgw: S3Server, rgw_bucket: BucketSettings, examine: Examine) -> None:
    """All is well there, too, as far as its documentation goes."""
    with proxied(rgw, ecs=StrictEcs()) as strict:
        steps = examine(changed(rgw_bucket, endpoint=strict.endpoint))

        assert states(steps, "ok") == set(steps) - {"TLS"}
        assert strict.refused == []


def test_what_is_there_is_left_alone(rgw_bucket: BucketSettings, examine: Examine) -> None:
    """No object of a dataset in the bucket is written or removed, and an upload that is under way is told of."""
    raw = Raw(rgw_bucket)
    bucket_dataset(raw, {"a": b"1"})
    raw.client.create_multipart_upload(Bucket=raw.bucket, Key="elsewhere")
    before = raw.state()

    steps = examine(rgw_bucket)

    assert raw.state() == before
    assert raw.uploads() == ["elsewhere"]
    assert steps["unfinished uploads"].state == "warning"
    assert steps["unfinished uploads"].details == ("elsewhere",)


def test_read_only_writes_nothing(behind: BucketSettings, proxy: Proxy, examine: Examine) -> None:
    """Not one request that could change anything is made."""
    steps = examine(behind, "--read-only")

    assert steps["writing"].state == "skipped"
    assert proxy.requests
    assert not [request for request in proxy.requests if request.method in WRITING]


def test_a_wrong_secret(rgw_bucket: BucketSettings, examine: Examine) -> None:
    """The credentials are named, with the variable that holds the secret; what needs them is skipped."""
    steps = examine(changed(rgw_bucket, secret_access_key="wr0ngs3cret"), status=1)

    assert states(steps, "failed") == {"credentials"}
    assert f"DTOOL_ECS_SECRET_ACCESS_KEY_{rgw_bucket.bucket}" in steps["credentials"].found
    assert {"bucket", "listing", "clock", "writing"} <= states(steps, "skipped")


def test_no_such_bucket(rgw_bucket: BucketSettings, rgw: S3Server, examine: Examine) -> None:
    """The credentials are right, the bucket is not there, and is not made."""
    steps = examine(changed(rgw_bucket, bucket="no-such-bucket-here"), status=1)

    assert steps["credentials"].state == "ok"
    assert states(steps, "failed") == {"bucket"}
    assert "no-such-bucket-here" not in [each["Name"] for each in rgw.client().list_buckets()["Buckets"]]


def test_settings_that_are_missing(
    examine: Examine, rgw_bucket: BucketSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are named, and how to set them; nothing is asked."""
    monkeypatch.delenv("DTOOL_ECS_ENDPOINT_unknown", raising=False)
    result = CliRunner().invoke(main, ["doctor", "unknown"])

    assert result.exit_code == 1
    assert "DTOOL_ECS_ENDPOINT_unknown" in result.stdout
    assert "dtool config ecs endpoint unknown" in result.stdout
    assert "skipped  endpoint, TLS, namespace" in result.stdout


def test_a_namespace_is_told(behind: BucketSettings, proxy: Proxy, examine: Examine) -> None:
    """It is sent with each request, and named with what it costs."""
    steps = examine(changed(behind, namespace="finance"), "--read-only")

    assert "'finance' is sent as x-emc-namespace" in steps["namespace"].found
    assert {request.headers["x-emc-namespace"] for request in proxy.requests} == {"finance"}


class TestPolicy:
    """The shipped policy, which allows a prefix."""

    @pytest.mark.parametrize("comforts", [True, False])
    def test_with_the_prefix(self, rgw_bucket: BucketSettings, user: str, examine: Examine, comforts: bool) -> None:
        """All is well, and a comfort that the policy leaves out is a warning."""
        set_policy(rgw_bucket, user, comforts=comforts)

        steps = examine(as_user(rgw_bucket, user))

        # A gateway shows the parts of an upload to whoever began it, whatever the policy says.
        denied = {"comfort: find uploads", "comfort: throw parts away"}
        assert states(steps, "warning") == (set() if comforts else denied)
        assert steps["comfort: find parts"].state == "ok"
        assert steps["prefix"].found == f"objects below u/{user}/ can be written"
        assert is_empty(rgw_bucket)

    def test_without_the_prefix(self, rgw_bucket: BucketSettings, user: str, examine: Examine) -> None:
        """The registration key may be written, the rest not: the setting is named, and nothing is left."""
        set_policy(rgw_bucket, user, comforts=False)

        steps = examine(changed(as_user(rgw_bucket, user), dataset_prefix=""), status=1)

        assert steps["registration keys"].state == "ok"
        assert states(steps, "failed") == {"prefix"}
        assert f"set DTOOL_ECS_DATASET_PREFIX_{rgw_bucket.bucket}" in steps["prefix"].advice
        assert steps["speed"].state == "skipped"
        assert is_empty(rgw_bucket)

    def test_without_any_right(self, rgw_bucket: BucketSettings, user: str, examine: Examine) -> None:
        """The bucket is there and the user known: it is the policy."""
        steps = examine(as_user(rgw_bucket, user), status=1)

        assert states(steps, "failed") == {"listing"}
        assert "s3:ListBucket" in steps["listing"].advice

    def test_what_cannot_be_removed_is_named(self, rgw_bucket: BucketSettings, user: str, examine: Examine) -> None:
        """A policy that lets nobody delete: who can is told the keys."""
        set_policy(rgw_bucket, user, comforts=True)
        owner = Raw(rgw_bucket)
        policy: Any = json.loads(owner.client.get_bucket_policy(Bucket=owner.bucket)["Policy"])
        for statement in policy["Statement"]:
            statement["Action"] = [action for action in statement["Action"] if action != "s3:DeleteObject"]
        owner.client.put_bucket_policy(Bucket=owner.bucket, Policy=json.dumps(policy))

        steps = examine(as_user(rgw_bucket, user), status=1)

        assert states(steps, "failed") == {"clean-up"}
        (registration,) = owner.listed("dtool-")
        assert registration in steps["clean-up"].advice
        assert "s3:DeleteObject" in steps["clean-up"].found


@pytest.mark.parametrize(("ahead", "status"), [(3600, 1), (-3600, 1), (300, 0)])
def test_a_clock_that_is_off(behind: BucketSettings, proxy: Proxy, examine: Examine, ahead: int, status: int) -> None:
    """By how much is said; what the store still takes is a warning, and what it refuses is no fault of the key."""
    proxy.offset = ahead

    clock = examine(behind, status=status)["clock"]

    assert clock.state == ("failed" if status else "warning")
    assert any(f"{abs(ahead) + slack} s" in clock.found for slack in range(-5, 6))
    assert "set the clock" in clock.advice


class TestTls:
    """The gateway over https."""

    def over(self, bucket: BucketSettings, secure: Proxy, **settings: object) -> BucketSettings:
        return changed(bucket, endpoint=secure.endpoint, **settings)

    def test_with_the_authority(self, rgw_bucket: BucketSettings, secure: Proxy, examine: Examine) -> None:
        """What trusts the certificate is named, and how long it lasts."""
        steps = examine(self.over(rgw_bucket, secure, ca_bundle=secure.ca_bundle), "--read-only")

        assert steps["TLS"].state == "ok"
        assert secure.ca_bundle in steps["TLS"].found
        assert "days" in steps["TLS"].found

    def test_without_the_authority(self, rgw_bucket: BucketSettings, secure: Proxy, examine: Examine) -> None:
        """The setting that is missing is named, and no request goes there."""
        secure.clear()
        steps = examine(self.over(rgw_bucket, secure), status=1)

        assert states(steps, "failed") == {"TLS"}
        assert f"set DTOOL_ECS_CA_BUNDLE_{rgw_bucket.bucket}" in steps["TLS"].advice
        assert secure.requests == []

    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # which urllib3 tells, too
    def test_switched_off(self, rgw_bucket: BucketSettings, secure: Proxy, examine: Examine) -> None:
        """A warning, with what a check would say; and nothing else says it a second time."""
        steps = examine(self.over(rgw_bucket, secure, verify_tls=False), "--read-only")

        assert states(steps, "warning") == {"TLS"}
        assert "it would be refused" in steps["TLS"].found

    def test_https_to_a_port_of_http(self, rgw_bucket: BucketSettings, examine: Examine) -> None:
        """Said as such."""
        steps = examine(changed(rgw_bucket, endpoint=rgw_bucket.endpoint.replace("http:", "https:")), status=1)

        assert "speaks http, not https" in steps["TLS"].found


def test_nobody_listens(rgw: S3Server, rgw_bucket: BucketSettings, examine: Examine) -> None:
    """The endpoint is named with where it came from, and all else is skipped."""
    with proxied(rgw) as proxy, proxy.down():
        steps = examine(changed(rgw_bucket, endpoint=proxy.endpoint), status=1)

    assert states(steps, "failed") == {"endpoint"}
    assert f"DTOOL_ECS_ENDPOINT_{rgw_bucket.bucket}" in steps["endpoint"].advice
    assert states(steps, "ok") == {"settings", "plugins"}


def test_a_host_that_does_not_exist(rgw_bucket: BucketSettings, examine: Examine) -> None:
    """The name is what is wrong, not the store."""
    steps = examine(changed(rgw_bucket, endpoint="http://nowhere.invalid:9020"), status=1)

    assert "'nowhere.invalid' is not known here" in steps["endpoint"].found


def test_a_store_without_put_if_absent(behind: BucketSettings, proxy: Proxy, rgw: S3Server, examine: Examine) -> None:
    """A warning that says what may not be done there; nothing is left behind."""
    proxy.on("PUT").forget("if-none-match", {rgw.access_key_id: rgw.secret_access_key})

    steps = examine(behind)

    assert states(steps, "warning") == {"put-if-absent"}
    assert "one process at a time" in steps["put-if-absent"].advice
    assert is_empty(behind)


def test_something_else_than_an_object_store(behind: BucketSettings, proxy: Proxy, examine: Examine) -> None:
    """A web server that answers everything is told apart from a bucket that is not there."""
    proxy.on().answer(200, body=b"<html>welcome</html>", content_type="text/html")

    steps = examine(behind, status=1)

    assert states(steps, "failed") == {"store"}
    assert "no object store" in steps["store"].found


def test_a_store_that_goes_down_meanwhile(
    behind: BucketSettings, proxy: Proxy, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for as long as a copy would try; what could not be removed then is named."""
    monkeypatch.setattr(doctor, "PATIENCE", 0.0)
    proxy.on("PutObject", key="*/data/*").answer(503, "SlowDown")
    proxy.on("DELETE").answer(503, "SlowDown")
    proxy.on("DeleteObjects").answer(503, "SlowDown")

    steps = examine(behind, status=1)

    assert states(steps, "failed") == {"prefix", "clean-up"}
    assert "the store is down, or busy" in steps["prefix"].found
    (left,) = Raw(behind).listed()
    assert left in steps["clean-up"].advice


def test_versioning_is_told(rgw_bucket: BucketSettings, examine: Examine) -> None:
    """What is deleted there takes room for ever."""
    client = Raw(rgw_bucket).client
    client.put_bucket_versioning(Bucket=rgw_bucket.bucket, VersioningConfiguration={"Status": "Enabled"})

    assert examine(rgw_bucket, "--read-only")["versioning"].state == "warning"


@pytest.mark.parametrize("nth", [1, 3, 60])
def test_ctrl_c_leaves_nothing_behind(
    behind: BucketSettings, proxy: Proxy, interrupt: Interrupt, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    """Whenever it comes: what was written is removed, the line says so, and the status is that of Ctrl-C."""
    proxy.on("PutObject", nth=nth).call(interrupt)
    for key, value in environment(behind).items():
        monkeypatch.setenv(key, value)

    result = CliRunner().invoke(main, ["doctor", behind.bucket])

    assert result.exit_code == 130
    assert result.stdout.splitlines()[-1].startswith("ok       clean-up ")
    assert result.stderr.splitlines()[-1] == "Error: stopped; what was written is removed"
    assert is_empty(behind)
