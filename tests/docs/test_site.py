"""What pages say of a Prefect server, deployments and workers, is typed on a site of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.pages import README, ROOT, SHELLS, blocks, commands
from tests.docs.reader import Reader
from tests.docs.test_followed import is_of_a_site
from tests.flows.site import prefect_site

SITE = ROOT / "deployments" / "README.md"
ARCHIVES = ROOT / "docs" / "archive.md"


def test_others_say_what_that_page_says() -> None:
    """The commands of README and docs/prefect-cloud.md are those of deployments/README.md, which are run below."""
    run = {tuple(words) for block in blocks(SITE, *SHELLS) for words in commands(block)}
    for page in (README, ROOT / "docs" / "prefect-cloud.md"):
        said = {tuple(words) for block in filter(is_of_a_site, blocks(page)) for words in commands(block)}
        assert {words for words in said - run if words[:2] != ("prefect", "cloud")} == set()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_site_is_set_up_and_runs(reader: Reader, tmp_path: Path) -> None:
    """Server, blocks, deployments, worker and runs by name are what deployments/README.md and docs/archive.md say."""
    shutil.copytree(ROOT / "deployments", tmp_path / "deployments")
    archives = tmp_path / "deployments" / "archives.yaml"
    archives.write_text(archives.read_text().replace("ecs-bucket/archive", f"ecs-bucket/{reader.bucket.bucket}"))
    with prefect_site(tmp_path / "site") as site:
        # The site's server is the one that a reader starts in another terminal; its home would have no dtool.json.
        prefect = {name: value for name, value in site.environment.items() if name.startswith(("PREFECT", "COLUMNS"))}
        reader.terminal.environment |= {**prefect, "PREFECT_WORKER_QUERY_SECONDS": "1"}
        reader.own.update(
            {
                "prefect --no-prompt server start": "true",
                "http://127.0.0.1:4200/api": f"{site.url}/api",
                "my-dataset": "measured",
                "/data/audits": str(tmp_path / "audits"),
                "/data/inventories": str(tmp_path / "inventories"),
                "/data/restored": str(tmp_path / "restored"),
            }
        )
        reader.terminal.type("cd deployments")
        try:
            reader.follow(SITE, is_of_a_site)
            reader.follow(ARCHIVES, is_of_a_site)
        finally:
            reader.terminal.close()
    assert [path.name for path in (tmp_path / "restored").glob("*/data/*")] == ["energies.csv"]
