"""`python -m dtool_ecs_flows.cli`."""

from dtool_ecs_flows.cli import main

main(prog_name="dtool-ecs-flows")
