"""The table of docs/other-stores.md is what the tests of the stores show."""

from __future__ import annotations

from dtool_ecs_flows.datasets.others.manners import MANNERS
from dtool_ecs_flows.plugins import EXTRAS
from tests.stores.table import COLUMNS, PAGE, ROWS, shown, written


def test_the_table_is_made_from_the_tests() -> None:
    """`python -m tests.stores.table` writes it again."""
    assert PAGE.read_text("utf-8") == written()


def test_no_test_shows_what_the_table_has_no_place_for() -> None:
    """Each mark names a row and a column."""
    assert {(store, direction) for store, direction, _ in shown()} == set(ROWS)
    assert {column for _, _, column in shown()} == set(COLUMNS)


def test_what_is_known_of_each_store_is_on_the_page() -> None:
    """Every scheme that has an extra has its manners in the code, and is on the page with its threads."""
    assert set(MANNERS) == set(EXTRAS)
    page = PAGE.read_text("utf-8")
    for scheme, manners in MANNERS.items():
        assert f"| `{scheme}` | {manners.threads} |" in page
