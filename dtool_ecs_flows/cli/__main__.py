"""`python -m dtool_ecs_flows.cli`."""

from dtool_ecs_flows.cli import main

if __name__ == "__main__":
    main(prog_name="dtool-ecs-flows")
