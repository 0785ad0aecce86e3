"""The page in a real browser: it draws without an error or a request, and its controls do what they say."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stillhouse.report import write_report
from stillhouse.report.comparison import compare
from tests.report.runs import atlas, evaluation, make_full_run, protocols, save_atlas

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
QUIET = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
WATCH = """
const seen = { errors: [], refused: [] };
window.addEventListener("error", (event) => seen.errors.push(event.message));
document.addEventListener("securitypolicyviolation", (event) => seen.refused.push(event.blockedURI));
"""
TELL = """
window.addEventListener("load", async () => {
  await new Promise((done) => setTimeout(done, 1000));
  seen.requests = performance.getEntriesByType("resource").map((entry) => entry.name.slice(0, 30));
  seen.drawn = [...document.querySelectorAll(".chart")].filter((place) => place.querySelector(".main-svg")).length;
  seen.charts = document.querySelectorAll(".chart").length;
  seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  await (%s)();
  document.body.dataset.seen = JSON.stringify(seen);
});
"""
PLAY = """async () => {
  const map = document.getElementById("map-0");
  const wait = () => new Promise((done) => setTimeout(done, 300));
  const look = () => ({
    x: map.data[0].x[0], opacity: map.data.map((group) => group.marker.opacity),
    pressed: [...document.querySelectorAll("[data-layer]")].map((button) => button.getAttribute("aria-pressed")),
  });
  seen.first = look();
  document.querySelectorAll("[data-layer]")[1].click();
  await wait();
  seen.second = look();
  document.querySelectorAll("[data-group]")[1].click();
  await wait();
  seen.alone = look();
  map.scrollIntoView();
  const mark = map.querySelector(".points path").getBoundingClientRect();
  const where = { clientX: mark.x + mark.width / 2, clientY: mark.y + mark.height / 2, bubbles: true };
  map.querySelector(".nsewdrag").dispatchEvent(new MouseEvent("mousemove", where));
  await wait();
  const tip = document.querySelector(".tip");
  seen.tip = [tip.hidden, tip.innerText, getComputedStyle(tip.firstChild).backgroundImage.slice(0, 25)];
}"""

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not BROWSER, reason="no browser here")]


def opened(page: Path, folder: Path, play: str = "async () => {}", width: int = 1200) -> dict[str, Any]:
    """What a browser saw of the page: the page's own policy stays, but for two scripts that look and play."""
    text = page.read_text("utf-8")
    for script, place in ((WATCH, "<title>"), (TELL % play, "</body>")):
        allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        text = text.replace("script-src ", f"script-src 'sha256-{allowed}' ", 1)
        text = text.replace(place, f"<script>{script}</script>{place}", 1)
    watched = folder / "watched.html"
    watched.write_text(text, "utf-8")
    told = subprocess.run(
        [BROWSER, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={width},12000",
         "--virtual-time-budget=8000", "--dump-dom", watched.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    found = re.search(r'data-seen="([^"]*)"', told)
    assert found, told[-2000:]
    seen: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return seen


def full_page(folder: Path) -> Path:
    run = make_full_run(folder)
    (run / "evaluation.json").write_text(json.dumps(evaluation(protocols=protocols())))
    save_atlas(run, atlas())
    return write_report(run)


def assert_quiet(seen: dict[str, Any]) -> None:
    assert seen["errors"] == seen["refused"] == []
    assert [name for name in seen["requests"] if not name.startswith("data:")] == []
    assert seen["drawn"] == seen["charts"] > 0


def test_the_map_obeys_its_controls_and_shows_the_image_under_the_pointer(tmp_path: Path) -> None:
    seen = opened(full_page(tmp_path), tmp_path, PLAY)
    assert_quiet(seen)
    assert seen["first"]["pressed"] == ["true", "false"]
    assert seen["second"]["pressed"] == ["false", "true"]
    assert seen["first"]["x"] != seen["second"]["x"] == seen["alone"]["x"]
    assert seen["alone"]["opacity"] == [0.07, 0.85, 0.07]
    hidden, words, image = seen["tip"]
    assert not hidden
    assert re.fullmatch(r"class 0\s+image-\d+\.png", words)
    assert image.startswith('url("data:image/webp')


@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_is_wider_than_the_window(tmp_path: Path, width: int) -> None:
    seen = opened(full_page(tmp_path), tmp_path, width=width)
    assert_quiet(seen)
    assert seen["wide"] == 0


def test_a_comparison_draws_without_an_error(tmp_path: Path) -> None:
    runs = [make_full_run(tmp_path / name) for name in "ab"]
    compare(runs, tmp_path / "compare.html")
    assert_quiet(opened(tmp_path / "compare.html", tmp_path))
