"""Pictures of the status page, by a chromium without a window, in the light and in the dark."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from stillhouse.edge.service.page import render
from stillhouse.edge.service.status import Status

SIZE = 1200, 1000
"""Pixels."""
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SCHEMES = {"dark": 0, "light": 1}
"""As chromium numbers them."""


def take_pictures(status: Status, folder: Path) -> None:
    """Write `edge-status-light.png` and `edge-status-dark.png`.

    Raises:
        FileNotFoundError: there is no chromium.
    """
    folder.mkdir(parents=True, exist_ok=True)
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise FileNotFoundError("chromium: not found; install it to take pictures")
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "page.html"
        page.write_text(render(status))
        for scheme, number in SCHEMES.items():
            picture = (folder / f"edge-status-{scheme}.png").resolve()
            asked = [
                f"--user-data-dir={place}/profile",
                f"--blink-settings=preferredColorScheme={number}",
                f"--window-size={SIZE[0]},{SIZE[1]}",
                f"--screenshot={picture}",
                page.as_uri(),
            ]
            subprocess.run([browser, *FLAGS, *asked], check=True, capture_output=True, timeout=120)
            print(f"written: {picture} ({picture.stat().st_size / 1000:.0f} kB)")
