"""How long a newcomer waits: from `portrait4d studio` to a face that moves in the page, with one click.

    python benchmarks/first_move.py [--runs 3] [--publish]

The click is made as soon as the page is there, so that this is what the program takes, without the person's own time.
Needs the extra `test` and Debian's Chromium.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from lift import processor
from live import running_studio
from material import conclude, table

GOAL_SECONDS = 60


def measure() -> dict[str, float]:
    """Seconds since the command was given, until each step."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("Chromium is not installed: apt install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        begun = time.monotonic()
        with running_studio(Path(folder)) as (_, address):
            steps = {"address": time.monotonic() - begun}
            page = browser.new_page(viewport={"width": 1280, "height": 860})
            page.goto(address)
            wait_for(page, "window.studio && studio.link.session !== ''")
            steps["page"] = time.monotonic() - begun
            page.get_by_role("button", name="Try it with a sample photo").click()
            wait_for(page, "studio.shown > 0")
            steps["head"] = time.monotonic() - begun
            first = picture(page)
            while picture(page) == first:
                page.wait_for_timeout(20)
            steps["moves"] = time.monotonic() - begun
            browser.close()
    return {**steps, "load": os.getloadavg()[0]}


def wait_for(page: Any, expression: str) -> None:
    """Waits until an expression holds; the page's policy forbids the wait of playwright."""
    while not page.evaluate(expression):
        page.wait_for_timeout(20)


def picture(page: Any) -> str:
    """What the canvas shows, as text."""
    return page.evaluate("document.getElementById('head').toDataURL('image/png')")


def main() -> None:
    """Measures, prints, and publishes on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--publish", action="store_true")
    options = parser.parse_args()
    runs = [measure() for _ in range(options.runs)]
    rows = [
        [str(number), *(f"{run[name]:.1f} s" for name in ("address", "page", "head", "moves")), f"{run['load']:.1f}"]
        for number, run in enumerate(runs, start=1)
    ]
    head = ["run", "address printed", "page connected", "head shown", "face moves", "load average"]
    text = f"""## From the command to a moving face

Goal: under {GOAL_SECONDS} seconds from `portrait4d studio` to a face that moves, without reading anything: one click on
"Try it with a sample photo", made at once.

Measured on {processor()}, {os.cpu_count()} cores, with other work running (a load of {os.cpu_count()} is all
cores busy); headless Chromium, without a GPU. The first run of an installation compiles parts of the engine once more.

{table(head, rows)}"""
    conclude("first-move", text, runs, is_published=options.publish)


if __name__ == "__main__":
    main()
