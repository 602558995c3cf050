"""The web page: what it makes of a photo, in a real browser, and what it keeps to itself."""

import contextlib
import importlib.metadata
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import BROWSER, PATIENCE, scene
from PIL import Image

from colorize import cli
from colorize.photos.sources import builtin_photos
from colorize.predict import in_grey
from colorize.pretrained import save_weights
from colorize.system.errors import ColorizeError
from colorize.web.page import _color, _examples, build_page

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
WAIT = PATIENCE * 1000  # milliseconds
TEMPORARY = "colorize-app-*"
# Not urlopen: it keeps the proxy of whoever asked first, and other tests set one that is dead.
STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def chroma(image):
    return np.ptp(np.asarray(image.convert("RGB")).astype(int), axis=-1).mean()


@pytest.mark.parametrize(
    ("name", "result"), [("a.jpg", "a-coloured.jpg"), ("b.gif", "b-coloured.png")]
)
def test_a_photo_is_shown_small_and_kept_whole(colorizer, tmp_path, name, result):
    Image.fromarray(scene(0, 2000, 1000)).convert("L").save(tmp_path / name)
    (before, after), file, line = _color(colorizer, tmp_path / name, tmp_path)
    assert before.size == after.size == (1600, 800)
    assert chroma(before) == 0
    assert chroma(after) > 5
    assert file.name == result
    with Image.open(file) as whole:
        assert whole.size == (2000, 1000)
        assert chroma(whole) > 5
    assert line.startswith("2000 x 1000 pixels")


def test_what_cannot_be_coloured_is_one_line_without_its_place(colorizer, tmp_path, monkeypatch):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    with pytest.raises(ColorizeError) as error:
        _color(colorizer, tmp_path / "bad.jpg", tmp_path)
    assert str(error.value) == "cannot be read as a photo (no kind of photo that is known)"
    Image.fromarray(scene(0)).save(tmp_path / "good.png")
    monkeypatch.setattr("colorize.web.page._MOST_PIXELS", 1000)
    with pytest.raises(ColorizeError, match=r"80x64 pixels, more than 0\.001 million"):
        _color(colorizer, tmp_path / "good.png", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"bad.jpg", "good.png"}


def test_deep_photos_are_said_to_lose_bits(colorizer, tmp_path):
    deep = np.asarray(Image.fromarray(scene(0)).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    *_, line = _color(colorizer, tmp_path / "deep.png", tmp_path)
    assert line.endswith("more than 8 bits a channel became 8")


def test_what_a_result_lacks_is_said(colorizer, tmp_path):
    first, *more = (Image.fromarray(scene(i)) for i in range(3))
    first.save(tmp_path / "pages.tif", save_all=True, append_images=more)
    *_, line = _color(colorizer, tmp_path / "pages.tif", tmp_path)
    assert line.endswith("s; the first of 3 pages is coloured")
    first.putalpha(100)
    first.save(tmp_path / "glass.png")
    (tmp_path / "glass.png").rename(tmp_path / "glass.jpg")
    *_, line = _color(colorizer, tmp_path / "glass.jpg", tmp_path)
    assert line.endswith("s; the result does not hold the photo's transparency")


def test_nothing_is_written_beside_the_source(colorizer, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    before = {path.name for path in Path(cli.__file__).parent.iterdir()}
    build_page(colorizer, tmp_path, threading.Lock())
    assert {path.name for path in Path(cli.__file__).parent.iterdir()} == before


@pytest.mark.parametrize("version", [None, "5.49.1", "6.9.0", "7.0.0", "main"])
def test_without_gradio_it_says_what_to_install(capsys, monkeypatch, version):
    def found(name):
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr("importlib.metadata.version", found)
    assert cli.main(["app", "--weights", "anything"]) == 1
    assert capsys.readouterr().err.endswith("one more package: pip install 'gradio>=6.22,<7'\n")


class Served:
    """The page, served by the command that users give."""

    def __init__(self, folder, weights):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", "colorize", "app", "--weights", str(weights)]
        self.command += ["--port", str(self.port)]
        self.process = subprocess.Popen(
            self.command,
            cwd=folder,
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = self.process.stdout.readline()

    def ask(self, path, data=None, headers=None):
        """Status and body of a request."""
        request = urllib.request.Request(self.url + path, data, headers or {})
        try:
            with STRAIGHT.open(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def color(self, photo, strength=1, size=64, smoothness=600, kept=None):
        """What the page answers to a client that names `photo` as the file it uploaded."""
        config = json.loads(self.ask("/config")[1])
        (job,) = (d for d in config["dependencies"] if len(d["inputs"]) == 6)
        data = [photo, strength, size, smoothness, False, kept]
        body = {"data": data, "fn_index": job["id"], "session_hash": "test"}
        self.ask(
            "/gradio_api/queue/join",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        _, events = self.ask("/gradio_api/queue/data?session_hash=test")
        messages = [json.loads(x[6:]) for x in events.splitlines() if x.startswith("data: ")]
        return next(m for m in messages if m["msg"] == "process_completed")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        _, said = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, said


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch

    from colorize.generator import Generator

    torch.manual_seed(0)
    generator = Generator(decoder_widths=(32, 16, 16, 8, 8), working_size=64)
    torch.nn.init.normal_(generator.head.weight, std=0.5)
    folder = tmp_path_factory.mktemp("weights") / "generator"
    save_weights(generator, folder)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory, weights):
    folder = tmp_path_factory.mktemp("served")
    Image.fromarray(scene(0)).save(folder / "secret.png")
    page = Served(folder, weights)
    page.folder = folder
    assert page.said == f"open {page.url}/ in a browser; Ctrl-C stops\n"
    yield page
    page.stop()


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=BROWSER, args=QUIET, timeout=WAIT)
        yield chrome
        chrome.close()


@pytest.fixture
def page(browser, served):
    """The page, opened; no address but its own may be asked for."""
    foreign = []
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.on("request", lambda r: foreign.append(r.url) if served.url not in r.url else None)
    visit(page, served)
    yield page
    page.close()
    assert [url for url in foreign if not url.startswith(("data:", "blob:"))] == []


def visit(page, served):
    page.set_default_timeout(WAIT)
    page.goto(served.url)
    page.wait_for_selector("#examples img")


def wait_until(page, holds):
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        page.wait_for_timeout(200)


def upload(page, path):
    page.locator("#photo input[type=file]").set_input_files(path)


def wait_for_line(page, text):
    page.wait_for_selector(f"#line:has-text('{text}')")


def downloaded(page, folder):
    with page.expect_download() as download:
        page.get_by_text("Download at full size").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    with Image.open(path) as image:
        image.load()
    return path, image


@pytest.mark.slow
def test_upload_compare_and_download(page, tmp_path):
    photo = Image.fromarray(scene(3, 1900, 700)).convert("L")
    photo.save(tmp_path / "old photo.png")
    upload(page, tmp_path / "old photo.png")
    wait_for_line(page, "1900 x 700 pixels, coloured in")
    path, colored = downloaded(page, tmp_path)
    assert path.name == "old photo-coloured.png"
    assert colored.size == (1900, 700)
    assert chroma(colored) > 5
    moved = np.asarray(in_grey(colored)).astype(int) - np.asarray(in_grey(photo))
    assert np.abs(moved).mean() < 1

    slider = page.locator("#shown")
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()

    def colour_at(x):
        """Colour on the screen at a share of the slider's width."""
        page.screenshot(path=tmp_path / "shot.png", clip=slider.bounding_box())
        with Image.open(tmp_path / "shot.png") as shot:
            at, middle = int(x * shot.width), shot.height // 2
            return chroma(shot.crop((at - 20, middle + 40, at + 20, middle + 80)))

    wait_until(page, lambda: colour_at(0.75) > 5)
    assert colour_at(0.25) < 2  # grey on the left of the line, colour on its right
    handle = page.locator(
        "#shown .handle, #shown [role=slider], #shown .inner"
    ).first.bounding_box()
    middle = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.1 * box["width"], middle, steps=5)
    page.mouse.up()
    wait_until(page, lambda: colour_at(0.25) > 5)


def test_examples_are_of_many_kinds(tmp_path):
    names = [Path(file).stem for file in _examples(tmp_path / "examples")]
    assert names[:5] == ["dogs", "mountains", "sunset", "fig", "expedition-1897"]
    assert names[5:] == [path.stem for path in builtin_photos()[:2]]


@pytest.mark.slow
def test_knobs_colour_again(page, tmp_path):
    page.locator("#examples img").nth(1).click()
    wait_for_line(page, "coloured in")
    assert chroma(downloaded(page, tmp_path)[1]) > 5
    strength = page.get_by_label("number input for Strength")
    strength.fill("0")
    strength.press("Tab")
    wait_until(page, lambda: chroma(downloaded(page, tmp_path)[1]) < 1)


@pytest.mark.slow
def test_each_new_value_of_a_knob_colours_once(page, tmp_path):
    """However it was given: as a number, by the keyboard, by the mouse; and held to the ends."""
    page.locator("#examples img").nth(1).click()
    wait_for_line(page, "coloured in")
    sent = []

    def note(request):
        if "/queue/join" in request.url:
            data = request.post_data_json["data"]
            if len(data) == 7:  # the state, the photo, the knobs, the results kept
                sent.append(data[2])

    page.on("request", note)
    number = page.get_by_label("number input for Strength")
    knob = page.get_by_label("range slider for Strength")
    coloured = page.locator("#shown img").last

    def turned(do):
        before, count = coloured.evaluate("img => img.src"), len(sent)
        do()
        wait_until(page, lambda: len(sent) > count)
        wait_until(page, lambda: coloured.evaluate("img => img.src") != before)

    def typed(value):
        number.fill(value)
        number.press("Enter")

    def drag():
        box = knob.bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + 2, middle, steps=8)
        page.mouse.up()

    turned(lambda: typed("0.8"))
    assert chroma(downloaded(page, tmp_path)[1]) > 5
    number.click()  # and left again, as it was
    page.mouse.click(5, 5)
    turned(lambda: knob.press("ArrowRight"))
    knob.press("Tab")
    turned(lambda: typed("7"))
    assert number.input_value() == "2"
    turned(page.get_by_label("Reset to default value").first.click)
    knob.scroll_into_view_if_needed()
    turned(drag)
    assert sent == [0.8, 0.85, 2, 1, pytest.approx(0, abs=0.06)]
    assert chroma(downloaded(page, tmp_path)[1]) < 2


@pytest.mark.slow
def test_less_smooth_colours_are_others(page, tmp_path):
    page.locator("#examples img").nth(1).click()
    wait_for_line(page, "coloured in")
    smooth = downloaded(page, tmp_path)[1]
    number = page.get_by_label("number input for Smoothness")
    assert number.input_value() == "600"
    number.fill("0")
    number.press("Enter")
    wait_until(page, lambda: downloaded(page, tmp_path)[1].tobytes() != smooth.tobytes())


@pytest.mark.slow
def test_a_bad_file_is_one_line_and_the_next_photo_works(page, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no photo")
    upload(page, tmp_path / "bad.jpg")
    wait_for_line(page, "cannot be read as a photo (no kind of photo that is known)")
    assert page.get_by_text("Download at full size").is_disabled()
    page.locator("#photo").get_by_label("Clear").click()
    # Nobody is as fast as a script: what clearing stops must not be the next photo.
    page.wait_for_selector("#line:has-text('cannot be read')", state="hidden")
    Image.fromarray(scene(0)).save(tmp_path / "good.png")
    upload(page, tmp_path / "good.png")
    wait_for_line(page, "80 x 64 pixels")
    assert downloaded(page, tmp_path)[1].size == (80, 64)


@pytest.mark.slow
def test_typing_a_number_is_no_error_before_it_is_typed(page, tmp_path):
    page.locator("#examples img").nth(0).click()
    wait_for_line(page, "coloured in")
    size = page.get_by_label("number input for Working size")
    size.click()
    size.press("Control+a")
    size.press_sequentially("128", delay=150)
    page.wait_for_timeout(1000)
    size.press("Tab")
    page.wait_for_timeout(2000)
    assert page.get_by_text("less than minimum").count() == 0
    assert downloaded(page, tmp_path)[1].size[0] > 400


@pytest.mark.slow
def test_a_photo_that_is_cleared_does_not_come_back(page, served, tmp_path):
    (results,) = served.temporary.glob(f"{TEMPORARY}/cache/results")
    large = Image.fromarray(scene(0)).resize((7000, 7000))
    large.save(tmp_path / "large.jpg")
    upload(page, tmp_path / "large.jpg")
    page.wait_for_selector("#shown :text('processing')")
    page.locator("#photo").get_by_label("Clear").click()
    page.evaluate(
        """() => {
            window.lines = [];
            const line = document.querySelector("#line");
            new MutationObserver(() => window.lines.push(line.innerText.trim())).observe(
                line, {subtree: true, childList: true, characterData: true});
        }"""
    )
    wait_until(page, lambda: list(results.glob("*/large-coloured.jpg")))
    page.wait_for_timeout(10_000)  # then the photo that was in work is done, and could be shown
    assert not any("coloured in" in line for line in page.evaluate("window.lines"))
    assert page.locator("#line").inner_text().strip() == ""
    assert page.get_by_text("Download at full size").is_disabled()


@pytest.mark.slow
def test_several_people_at_once_get_their_own_photos(browser, served, tmp_path):
    pages = [browser.new_context().new_page() for _ in range(4)]
    for i, one in enumerate(pages):
        visit(one, served)
        Image.fromarray(scene(i, 300 + i, 200)).save(tmp_path / "photo.png")
        upload(one, tmp_path / "photo.png")
    for i, one in enumerate(pages):
        wait_for_line(one, f"{300 + i} x 200 pixels")
        assert downloaded(one, tmp_path)[1].size == (300 + i, 200)
        one.context.close()


@pytest.mark.slow
def test_on_a_phone_everything_fits(browser, served):
    phone = browser.new_page(viewport={"width": 390, "height": 844}, is_mobile=True)
    visit(phone, served)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()


@pytest.mark.slow
def test_no_file_of_the_machine_can_be_read(served):
    secret = served.folder / "secret.png"
    for path in (secret, "/etc/hostname", "../secret.png", served.temporary):
        status, _ = served.ask(f"/gradio_api/file={path}")
        assert status in (403, 404), path
    for path in (str(secret), "/etc/hostname"):
        answer = served.color({"path": path, "meta": {"_type": "gradio.FileData"}})
        assert not answer["success"], path


@pytest.mark.slow
def test_an_address_is_not_fetched(served):
    url = f"{served.url}/theme.css"
    answer = served.color({"path": url, "url": url, "meta": {"_type": "gradio.FileData"}})
    assert not answer["success"]
    assert "not an address" in answer["output"]["error"]


def uploaded(served, content, name="photo.png"):
    _, body = post_file(served, name, content)
    return {"path": json.loads(body)[0], "meta": {"_type": "gradio.FileData"}}


def png(width, height):
    file = io.BytesIO()
    Image.fromarray(scene(0, width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_knobs_beyond_their_ends_are_refused(served):
    photo = uploaded(served, png(80, 64))
    assert "coloured in" in json.dumps(served.color(photo)["output"])
    for knobs in ({"size": 10**6}, {"strength": -3}, {"smoothness": 2000}):
        assert not served.color(photo, **knobs)["success"]
    for knob in ("size", "strength", "smoothness"):
        knobs = {knob: float("nan")}
        assert "that is no number" in json.dumps(served.color(photo, **knobs)["output"])


@pytest.mark.slow
def test_a_photo_may_begin_with_a_dot(served):
    """The server was started above its temporary folder, where gradio refuses such names."""
    answer = served.color(uploaded(served, png(80, 64), ".photo.png"))
    assert "coloured in" in json.dumps(answer["output"])


@pytest.mark.slow
def test_a_client_cannot_have_a_folder_removed(served):
    (served.folder / "kept").mkdir()
    (served.folder / "kept" / "file").touch()
    served.color(uploaded(served, png(80, 64)), kept=[str(served.folder / "kept" / "file")])
    assert (served.folder / "kept" / "file").exists()


@pytest.mark.slow
def test_only_the_newest_results_of_a_visitor_are_kept(served):
    (results,) = served.temporary.glob(f"{TEMPORARY}/cache/results")
    photo = uploaded(served, png(80, 64))
    served.color(photo)
    served.color(photo)
    before = len(list(results.iterdir()))
    for strength in (0.5, 0.7, 0.9):
        served.color(photo, strength=strength)
    assert len(list(results.iterdir())) == before


def post_file(served, name, *contents):
    head = f'Content-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = b"".join(b"--x\r\n" + head + content + b"\r\n" for content in contents) + b"--x--\r\n"
    return served.ask(
        "/gradio_api/upload", body, {"Content-Type": "multipart/form-data; boundary=x"}
    )


@pytest.mark.slow
def test_uploads_stay_in_the_temporary_folder_and_are_limited(served):
    status, body = post_file(served, "../../../../evil.jpg", b"x")
    assert status == 200
    (path,) = map(Path, json.loads(body))
    (folder,) = served.temporary.glob(TEMPORARY)
    assert folder / "cache" in path.parents
    assert list(served.folder.rglob("evil.jpg")) == [path]
    for contents in ([bytes(51 * 2**20)], [bytes(20 * 2**20)] * 3):
        assert post_file(served, "large.jpg", *contents) == (413, "at most 51 MB at once")


@pytest.mark.slow
def test_a_full_folder_takes_no_more(served):
    (cache,) = served.temporary.glob(f"{TEMPORARY}/cache")
    with open(cache / "large", "wb") as file:
        file.truncate(2 * 2**30)  # takes no room on the disk
    assert post_file(served, "photo.jpg", b"x")[0] == 507
    (cache / "large").unlink()
    assert post_file(served, "photo.jpg", b"x")[0] == 200


@pytest.mark.slow
def test_a_taken_port_is_one_line(served, weights):
    done = subprocess.run(
        served.command, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"colorize: cannot listen on 127.0.0.1, port {served.port} ")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopping_leaves_nothing_behind(tmp_path, weights, how):
    if signal.getsignal(how) is signal.SIG_IGN:
        pytest.skip("under nohup SIGHUP stops nothing, as it should")
    page = Served(tmp_path, weights)
    post_file(page, "photo.jpg", b"x")
    # What gradio refuses is said on the page; the server's terminal stays quiet.
    answer = page.color(uploaded(page, b"x", "notes.txt"))
    assert "Invalid file type" in answer["output"]["error"]
    assert not page.color(uploaded(page, png(80, 64)), size=10**6)["success"]
    assert len(list(page.temporary.glob(TEMPORARY))) == 1
    assert page.stop(how) == (130, "colorize: stopped\n")
    assert list(page.temporary.glob(TEMPORARY)) == []


@pytest.mark.slow
def test_stopping_waits_for_the_photo_in_work(tmp_path, weights):
    page = Served(tmp_path, weights)
    photo = uploaded(page, png(3000, 2000))
    asking = threading.Thread(target=lambda: suppress_all(page.color, photo), daemon=True)
    asking.start()
    time.sleep(0.8)
    assert page.stop() == (130, "colorize: stopped\n")
    assert list(page.temporary.glob(TEMPORARY)) == []
    asking.join(10)


def suppress_all(function, *args):
    with contextlib.suppress(Exception):
        function(*args)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no Linux")
def test_only_this_machine_is_let_in(served):
    tables = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
    rows = [line.split() for t in tables if t.exists() for line in t.read_text().splitlines()[1:]]
    listening = [
        row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{served.port:04X}")
    ]
    assert listening == [f"0100007F:{served.port:04X}"]
