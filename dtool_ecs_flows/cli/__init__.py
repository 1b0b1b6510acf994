"""The command of a person at a terminal: `dtool-ecs-flows`, or `decs` for short.

One file for each command, with its options and what it prints; the work is done in the rooms below. A new command is
a file here and a line in `COMMANDS`. `ends` has the exit statuses.

Each command imports what it needs where it runs: nobody waits for Prefect, or for an S3 client, to be told how a
command is called or to have its name completed.
"""

from __future__ import annotations

import click

from dtool_ecs_flows.cli import audit, blocks, copy, doctor, ends, inventory, ls, serve, verify

__all__ = ["COMMANDS", "main"]

COMMANDS: tuple[click.Command, ...] = (
    copy.copy,
    ls.ls,
    inventory.inventory,
    verify.verify,
    audit.audit,
    doctor.doctor,
    serve.serve,
    blocks.blocks,
)
"""The commands, in the order of the help."""


@click.group(cls=ends.Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dtool-ecs-flows", prog_name="dtool-ecs-flows")
def main() -> None:
    """Move whole dtool datasets into and out of ECS and other S3 buckets.

    For what is inside of a dataset there is the command dtool. Names complete themselves in bash after
    eval "$(_DECS_COMPLETE=bash_source decs)"; zsh and fish as well.
    """


for _command in COMMANDS:
    main.add_command(_command)
