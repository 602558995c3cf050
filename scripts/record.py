"""Record `app.webp`: the web page with the weights of this repository, in an installed Chromium.

    python scripts/record.py

An example is picked, the line is drawn across it, the strength is raised.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from colorize.system.files import ASSETS, write_whole

WINDOW, SHOWN = (1000, 840), (640, 538)  # pixels
EXAMPLE = 2  # of the page's: a sunset
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WAIT = 600_000  # milliseconds; a machine may be busy
LOOK, MOVE = 1600, 250  # milliseconds a frame is shown: to be looked at, or on the way


def shot(page: Page) -> Image.Image:
    page.evaluate("scrollTo(0, 0)")  # the knobs are below what the window shows
    picture = Image.open(BytesIO(page.screenshot())).convert("RGB")
    return picture.resize(SHOWN, Image.Resampling.LANCZOS)


def drag(page: Page, line: Locator, shares: list[float]) -> list[Image.Image]:
    """Draw the line to shares of the picture's width, left to right."""
    box, handle = line.bounding_box(), line.locator(".inner").first.bounding_box()
    middle = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, middle)
    page.mouse.down()
    shots = []
    for share in shares:
        page.mouse.move(box["x"] + share * box["width"], middle, steps=5)
        page.wait_for_timeout(300)
        shots.append(shot(page))
    page.mouse.up()
    return shots


def wait_for_pictures(page: Page, but: str = "") -> None:
    """Until grey and coloured are on the screen; the coloured one is not that of the address."""
    there = """but => {
        const shown = [...document.querySelectorAll('#shown img')];
        return shown.length > 1 && shown.at(-1).src != but
            && shown.every(img => img.complete && img.naturalWidth);
    }"""
    page.wait_for_function(there, arg=but)
    page.wait_for_timeout(1000)  # to be painted


def visit(page: Page) -> list[tuple[Image.Image, int]]:
    """Pictures of what a visitor does, and the milliseconds that each is shown."""
    page.wait_for_selector("#examples img")
    frames = [(shot(page), LOOK)]
    page.locator("#examples img").nth(EXAMPLE).click()
    page.wait_for_selector("#line:has-text('coloured in')")
    wait_for_pictures(page)  # they come after the line
    frames.append((shot(page), LOOK))
    frames += [(each, MOVE) for each in drag(page, page.locator("#shown"), [0.35, 0.2, 0.05])]
    frames.append((shot(page), LOOK))
    strength = page.get_by_label(re.compile("number input for Strength", re.IGNORECASE))
    before = page.locator("#shown img").last.evaluate("img => img.src")
    strength.fill("1.4")
    strength.press("Enter")
    strength.blur()
    wait_for_pictures(page, but=before)
    frames.append((shot(page), 2 * LOOK))
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ASSETS / "app.webp")
    args = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        parser.error(f"none of {', '.join(BROWSERS)} is installed")
    command = [sys.executable, "-m", "colorize", "app"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = re.search(r"http\S+", server.stdout.readline())[0]
            with sync_playwright() as playwright:
                chrome = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
                page = chrome.new_page(viewport=dict(zip(("width", "height"), WINDOW, strict=True)))
                page.set_default_timeout(WAIT)
                page.goto(url)
                frames = visit(page)
                chrome.close()
        finally:
            server.terminate()
    pictures, milliseconds = zip(*frames, strict=True)
    with write_whole(args.out) as temporary:
        pictures[0].save(
            temporary,
            "webp",
            save_all=True,
            append_images=pictures[1:],
            duration=milliseconds,
            loop=0,
            quality=70,
        )
    print(args.out, len(pictures), "frames")


if __name__ == "__main__":
    main()
