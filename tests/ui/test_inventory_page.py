"""The page of an inventory in a real browser: what it shows, and what it does not let happen."""

from __future__ import annotations

import http.server
import json
import random
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dtool_ecs_flows import BucketSettings, Inventory, InventoryEntry, inventory_bucket, write_inventory
from tests.hostile import TEXTS
from tests.independent import Raw, bucket_dataset
from tests.ui.conftest import Browser, Page, expect, keep

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    '"><iframe srcdoc="<script>parent.alert(1)</script>"></iframe>',
    "javascript:alert(1)",
    "{{constructor.constructor('alert(1)')()}}",
    "`${alert(1)}`",
    "$policy $script ${data}",
    "\u202egnp.exe",
    "__proto__",
    *TEXTS,
]


def entry(number: int, **facts: Any) -> InventoryEntry:
    uuid = f"{number:08d}-0000-4000-8000-000000000000"
    values = {"uri": f"ecs://my-bucket/{uuid}", "uuid": uuid, "type": "dataset", "tags": (), **facts}
    return InventoryEntry(**values)


def inventory(entries: list[InventoryEntry], orphans: tuple[str, ...] = ()) -> Inventory:
    return Inventory(
        base_uri="ecs://my-bucket", at=1.7e9, datasets=tuple(entries), orphans=orphans, changed=0, seconds=1.0
    )


class Served:
    """A page that is fetched over http from a folder, with a note of all that is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.shown = 0
        outer = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                outer.asked.append(self.path)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.server.server_port}/inventory.html"

    def show(self, page: Page, taken: Inventory) -> list[str]:
        """Open an inventory; return what goes wrong on the page, which grows while it is looked at."""
        write_inventory(taken, self.folder / "inventory.html")
        wrong: list[str] = []

        def note(dialog: Any) -> None:
            wrong.append(f"dialog: {dialog.message}")
            dialog.dismiss()

        page.on("dialog", note)
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        self.shown += 1
        page.goto(f"{self.url}?{self.shown}")  # else an older one may come out of the browser's cache
        return wrong


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A web server for one folder."""
    served = Served(tmp_path)
    thread = threading.Thread(target=served.server.serve_forever)
    thread.start()
    yield served
    served.server.shutdown()
    thread.join()
    served.server.server_close()


def names(page: Page) -> list[str]:
    """The names in the table, from top to bottom."""
    shown: list[str] = page.locator("#rows th").all_inner_texts()
    return shown


ELEMENTS = "[...new Set([...document.querySelectorAll('body *')].map((each) => each.localName))]"


def test_hostile_names_are_text_and_nothing_is_asked_of_anybody(page: Page, served: Served) -> None:
    """No script of a name runs, no element comes of it, no request is made but that for the page itself."""
    harmless = inventory([entry(number, name=f"n{number}", bytes=1, created_at=1.5e9) for number in range(3)])
    wrong = served.show(page, harmless)
    before = page.evaluate(ELEMENTS)

    entries = [
        entry(
            number,
            name=text,
            creator_username=text,
            tags=(text,),
            problem=text if number % 2 else "",
            items=1,
            bytes=10**number,
        )
        for number, text in enumerate(text.encode("utf-8", "replace").decode() for text in HOSTILE)
    ]
    wrong += served.show(page, inventory([*entries], orphans=("00000000-0000-0000-0000-000000000000",)))
    expect(page.get_by_text(f"{len(entries) + 1} found")).to_be_visible()
    for summary in page.locator("summary").all():
        summary.click()
    for text in ("alert(1)", "policy", "gnp"):
        page.get_by_label("Search").fill(text)
        expect(page.locator("#rows th").first).to_be_visible()
    page.get_by_label("Search").fill("onerror")
    expect(page.locator("#rows tr")).to_have_count(1)
    keep(page, "inventory-page-hostile")

    assert names(page) == ["<img src=x onerror=alert(1)>"]
    assert set(page.evaluate(ELEMENTS)) <= {*before, "title"}
    assert wrong == []
    assert {path for path in served.asked if "favicon" not in path} == {"/inventory.html?1", "/inventory.html?2"}
    page.get_by_label("Search").fill("gnp")
    expect(page.locator("#rows tr")).to_have_count(2)
    assert all("\\u202egnp.exe" in name for name in names(page))


def test_a_script_that_got_in_all_the_same_would_not_run(page: Page, served: Served) -> None:
    """The page's own policy: no script but its own, and nothing is loaded or sent."""
    served.show(page, inventory([entry(1, name="n")]))
    expect(page.locator("#rows th")).to_be_visible()
    page.evaluate(
        """() => {
            window.ran = [];
            const script = document.createElement('script');
            script.textContent = 'window.ran.push("script")';
            document.body.append(script);
            document.body.insertAdjacentHTML('beforeend', '<img src="/pixel.png" onerror="window.ran.push(1)">');
        }"""
    )
    refused = page.evaluate("fetch('/stolen').then(() => 'sent', () => 'refused')")

    assert (page.evaluate("window.ran"), refused) == ([], "refused")
    assert not [path for path in served.asked if "pixel" in path or "stolen" in path]


def test_ten_thousand_datasets_are_searched_sorted_and_leafed_through(page: Page, served: Served) -> None:
    """Each word must be there; what is not known comes last; the plots are of what was found."""
    draw = random.Random(1)
    entries = [
        entry(
            number,
            name=f"{('simulation', 'penguins', 'calibration')[number % 3]}-{number:05}",
            type="protodataset" if number % 50 == 0 else "dataset",
            creator_username=f"user{number % 12}",
            created_at=1.5e9 + 20_000 * number,
            frozen_at=None if number % 50 == 0 else 1.5e9 + 20_000 * number + 60,
            items=number,
            bytes=None if number == 77 else int(10 ** draw.gauss(7, 2)),
            tags=("raw", "v1.2") if number % 2 else (),
            problem="manifest unreadable" if number == 77 else "",
        )
        for number in range(10_000)
    ]
    largest = max(entries, key=lambda each: each.bytes or 0)
    wrong = served.show(page, inventory(entries))

    expect(page.get_by_role("status")).to_contain_text("10,000 found")
    keep(page, "inventory-page")
    assert len(names(page)) == 100
    assert names(page)[0] == "calibration-00002"
    page.get_by_role("button", name="Size").click()
    assert names(page)[0] == largest.name
    expect(page.get_by_role("columnheader", name="Size")).to_have_attribute("aria-sort", "descending")
    for way in ("ascending", "descending"):
        page.get_by_role("button", name="Size").click()
        expect(page.get_by_role("columnheader", name="Size")).to_have_attribute("aria-sort", way)
        page.get_by_role("button", name="Last").click()
        assert names(page)[-1] == "calibration-00077"
    expect(page.get_by_text("9,901 to 10,000 of 10,000")).to_be_visible()

    page.get_by_label("Search").fill("PENGUINS user7 raw")
    expect(page.get_by_role("status")).to_contain_text("833 found")
    creators = page.get_by_role("img", name="Volume per creator")
    expect(creators).to_have_attribute("aria-label", re.compile("^Volume per creator: user7 "))
    assert creators.locator("rect").count() == 1
    page.get_by_label("Search").fill("")
    page.get_by_label("State").select_option("with a problem")
    expect(page.locator("#rows tr")).to_have_count(1)
    assert names(page) == ["calibration-00077"]
    page.get_by_label("Search").fill("there is no such thing")
    expect(page.get_by_role("status")).to_contain_text("0 found")
    assert wrong == []


def test_it_can_be_read_in_the_dark_and_without_a_mouse(browser: Browser, page: Page, served: Served) -> None:
    """Text stands out from its ground as WCAG asks for (4.5 : 1), in both schemes; the keyboard reaches all."""
    taken = inventory(
        [
            entry(n, name=f"n{n}", bytes=10**n, items=n, created_at=1.5e9 + n * 1e7, problem="" if n else "unreadable")
            for n in range(9)
        ]
    )
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        served.show(page, taken)
        expect(page.locator("#rows tr")).to_have_count(9)
        keep(page, f"inventory-page-{scheme}")
        assert page.evaluate(CONTRASTS) == []

    page.keyboard.press("Tab")
    reached = []
    for _ in range(20):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        page.keyboard.press("Tab")
    assert reached[:2] == ["search", "state"]
    assert {"Name", "Size", "As a table"} <= set(reached)


CONTRASTS = """() => {
    const light = (color) => {
        const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3).map((each) => each / 255)
            .map((each) => each <= .04045 ? each / 12.92 : ((each + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const ground = (each) => {
        for (; each; each = each.parentElement) {
            const color = getComputedStyle(each).backgroundColor;
            if (!color.startsWith('rgba(0, 0, 0, 0')) return color;
        }
        return 'rgb(255, 255, 255)';
    };
    const poor = [];
    for (const each of document.querySelectorAll('body *')) {
        const texts = [...each.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE);
        const own = texts.map((node) => node.data).join('').trim();
        if (!own || each.disabled || !each.checkVisibility() || ['OPTION', 'title'].includes(each.tagName)) continue;
        const style = getComputedStyle(each), ink = each instanceof SVGElement ? style.fill : style.color;
        const [a, b] = [light(ink), light(ground(each))].sort((x, y) => y - x);
        if ((a + .05) / (b + .05) < 4.5) poor.push([each.tagName, own, ink, ground(each)]);
    }
    return poor;
}"""


def test_the_inventory_of_a_bucket_is_the_page_that_is_seen(
    page: Page, served: Served, rclone_bucket: BucketSettings
) -> None:
    """From objects in a bucket to rows in a browser, also for one who writes names there that no dtool would."""
    raw = Raw(rclone_bucket)
    bucket_dataset(raw, {"a": b"12345"}, name="penguins", tags=["raw"])
    bucket_dataset(raw, {"a": b"1"}, name="<script>alert(1)</script>", admin={"creator_username": "Jörg <b>"})
    wrong = served.show(page, inventory_bucket(rclone_bucket.base_uri, settings=rclone_bucket))

    expect(page.locator("#rows tr")).to_have_count(2)
    assert names(page) == ["<script>alert(1)</script>", "penguins"]
    expect(page.get_by_role("row", name="penguins")).to_contain_text("5 B")
    expect(page.get_by_role("cell", name="Jörg <b>", exact=True)).to_be_visible()
    assert wrong == []
    assert json.loads(page.locator("#data").text_content())["rows"]
