"""Makes docs/studio.png: the studio's page with the free portrait, by Debian's Chromium.

    python scripts/make_studio_picture.py

The portrait is that of scikit-image (NASA, public domain).
"""

import io
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDTH, HEIGHT = 1180, 860


def main() -> None:
    """Opens the page, gives it the photo, shows keyframes and sets one of them, and keeps what is seen."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        raise SystemExit("Chromium is not installed: apt install chromium")
    command = [sys.executable, "-m", "portrait4d.cli.main", "studio", "--port", "0", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert server.stdout is not None
    address = server.stdout.readline().strip()
    try:
        with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
            photo = Path(folder) / "photo.png"
            Image.fromarray(skimage.data.astronaut()).save(photo)
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(address)
            page.wait_for_timeout(1000)
            page.set_input_files("#photo", str(photo))
            page.wait_for_selector("#drop", state="hidden", timeout=120_000)
            page.get_by_role("button", name="Example").click()
            page.locator(".key").nth(1).click()
            page.get_by_role("button", name="Smile").click()
            page.evaluate("studio.sliders.set({ yaw: -14, roll: 4, 'gaze-x': 0.35, browInnerUp: 0.4 })")
            page.wait_for_timeout(4000)
            page.evaluate("document.getElementById('notices').replaceChildren(); studio.meter.clear()")
            page.mouse.move(0, 0)
            page.wait_for_timeout(1000)
            seen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            browser.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    seen.save(ROOT / "docs" / "studio.png", optimize=True)


if __name__ == "__main__":
    main()
