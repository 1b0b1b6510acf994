"""`blocks`: the settings of buckets as blocks on a Prefect server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from dtool_ecs_flows.cli import server
from dtool_ecs_flows.cli.ends import said

if TYPE_CHECKING:
    from dtool_ecs_flows.blocks import EcsBucket


@click.group()
def blocks() -> None:
    """Keep the settings of buckets as blocks on a Prefect server."""


@blocks.command()
def register() -> None:
    """Register the block type, so that the Prefect UI can show its form.

    Needed once for each server, and again after an upgrade of this package.
    """
    from dtool_ecs_flows.blocks import EcsBucket

    with server.errors_told():
        EcsBucket.register_type_and_schema()
    click.echo(f"registered block type {EcsBucket.get_block_type_slug()} on {server.address()}")


@blocks.command("import")
@click.option(
    "--config",
    "config_path",
    type=click.Path(exists=True, dir_okay=False),
    help="The file to read; by default dtool's own, ~/.config/dtool/dtool.json.",
)
@click.option("--bucket", "buckets", multiple=True, help="Only this bucket; may be given several times.")
@click.option("--overwrite", is_flag=True, help="Replace blocks that hold other values for the same bucket.")
@click.option("--dry-run", is_flag=True, help="Say what would be saved; no server is asked.")
def import_(config_path: str | None, buckets: tuple[str, ...], overwrite: bool, dry_run: bool) -> None:
    """Save every bucket of a dtool.json as a block.

    The environment is not looked at. A block that already holds the same values is left alone, so the same command can
    run again.
    """
    # Before Prefect is imported: what is wrong with the file is said at once.
    from dtool_ecs_flows.errors import EcsFlowsError, SettingsError
    from dtool_ecs_flows.settings import configured_buckets, dtool_json_path

    path = dtool_json_path(config_path)
    wanted = buckets or configured_buckets(path, environment=False)
    if not wanted:
        raise SettingsError(f"{path} holds no bucket, or is not there; name another file with --config")

    from dtool_ecs_flows.blocks import EcsBucket, block_names

    names = block_names(wanted)
    if not dry_run:
        with server.errors_told():
            EcsBucket.register_type_and_schema()
    failed = 0
    for bucket, name in names.items():
        try:
            block = EcsBucket.from_dtool_json(bucket, path)
            done = "would be saved as" if dry_run else _save(block, name, overwrite=overwrite)
        except EcsFlowsError as error:  # one bucket must not stop the others
            failed += 1
            click.echo(f"Error: bucket {bucket}: {said(error)}", err=True)
        else:
            click.echo(f"bucket {bucket} at {block.endpoint}: {done} block {_document(name)}")
    if failed:
        raise EcsFlowsError(f"{failed} of {len(names)} buckets failed")
    if not dry_run:
        click.echo(f"done, on {server.address()}")


def _save(block: EcsBucket, name: str, *, overwrite: bool) -> str:
    """Save a block unless that would change one that the user did not mean; return what was done."""
    from dtool_ecs_flows.errors import SettingsError

    with server.errors_told():
        saved = _load(name)
        if saved is None:
            block.save(name)
            return "saved as"
        if saved.bucket != block.bucket:
            raise SettingsError(
                f"block {_document(name)} is of another bucket, {saved.bucket}; it is left alone: "
                "rename it, or save this bucket under a name of your own"
            )
        if _values(saved) == _values(block):
            return "is already in"
        if not overwrite:
            raise SettingsError(f"block {_document(name)} holds other values; replace them with --overwrite")
        block.save(name, overwrite=True)
        return "replaced"


def _load(name: str) -> EcsBucket | None:
    from dtool_ecs_flows.blocks import EcsBucket

    try:
        return cast("EcsBucket", EcsBucket.load(name))
    except ValueError:
        # What Prefect raises where there is no block of this name.
        return None
    except RuntimeError:
        message = f"block {_document(name)} holds values that cannot be read; delete it first"
    from dtool_ecs_flows.errors import SettingsError

    raise SettingsError(message)


def _values(block: EcsBucket) -> dict[str, Any]:
    return {field: getattr(block, field) for field in type(block).model_fields}


def _document(name: str) -> str:
    from dtool_ecs_flows.blocks import EcsBucket

    return f"{EcsBucket.get_block_type_slug()}/{name}"
