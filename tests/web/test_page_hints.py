"""The page's hints: what the server answers, and a visitor's clicks in a real browser."""

import json

import numpy as np
import pytest
import torch
from conftest import scene
from PIL import Image, ImageColor
from test_server import WAIT, Served, browser, upload  # noqa: F401

from colorize.color import rgb_to_lab
from colorize.generator import Generator
from colorize.predict import Colorizer, in_grey, to_tensor
from colorize.pretrained import save_weights
from colorize.system.errors import ColorizeError
from colorize.web.hints import edit

SIZE = (800, 600)  # of the photo; it is shown at 80x60
RED = {"x": 400, "y": 100, "color": "#a03020"}


@pytest.fixture
def painter(hinted):
    return Colorizer(hinted, device="cpu")


@pytest.fixture
def grey():
    return in_grey(Image.fromarray(scene(0, 80, 60)))


def test_a_change_brings_the_photo_in_its_new_colours(painter, grey):
    value, plain = edit(painter, grey, SIZE, {})
    assert value["hints"] == value["colors"] == []
    assert value["picture"].startswith("data:image/jpeg;base64,")
    value, colored = edit(painter, grey, SIZE, {"hints": [RED]})
    assert (value["hints"], value["width"], value["height"]) == ([RED], *SIZE)
    wanted = painter(grey, [(39.55, 9.55, "#a03020")])  # the same place of the small photo
    assert colored.tobytes() == wanted.tobytes() != plain.tobytes()


def test_a_place_has_colours_of_its_own_lightness_to_choose_from(painter, grey):
    value, colored = edit(painter, grey, SIZE, {"hints": [], "place": [400, 100], "same": True})
    assert colored is None
    assert len(value["colors"]) >= 5
    rgb = np.array([ImageColor.getrgb(color) for color in value["colors"]], np.uint8)
    lab = rgb_to_lab(to_tensor(rgb[None]))[0, :, 0]
    assert lab[0].std() < 1
    assert lab[1].max() - lab[1].min() > 10  # of several hues
    small = painter(grey.resize((43, 32), Image.Resampling.BICUBIC))  # as the network sees it
    assert small.getpixel((21, 4)) == pytest.approx(rgb[0].tolist(), abs=2)


def test_colours_for_a_dark_place_can_be_told_apart(painter):
    dark = Image.new("L", (80, 60), 5).convert("RGB")
    value, _ = edit(painter, dark, SIZE, {"place": [400, 100], "same": True})
    rgb = np.array([ImageColor.getrgb(color) for color in value["colors"]], np.uint8)
    lab = rgb_to_lab(to_tensor(rgb[None]))[0, :, 0].T
    assert len(lab) >= 5
    assert torch.pdist(lab[1:-1]).min() > 10  # those around the wheel


def test_a_point_is_chosen_without_its_own_say(painter, grey):
    asked = {"hints": [RED], "chosen": 0, "same": True}
    place = {"hints": [], "place": [400, 100], "same": True}
    assert (
        (edit(painter, grey, SIZE, asked)[0]["colors"])
        == (edit(painter, grey, SIZE, place)[0]["colors"])
    )


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"hints": [RED | {"x": 800}]}, "hint 1: .* outside the photo, which is 800x600"),
        ({"hints": [5]}, "hint 1: has not just x, y and color"),
        ({"hints": {}}, "is no list of hints"),
        ({"file": "no"}, "is not JSON"),
        ({"file": None}, "more than 50000 characters"),
        ({"file": " " * 50_001}, "more than 50000 characters"),
        ({"place": [1]}, "is not"),
        ({"place": ["a", 1]}, "x and y are not two numbers"),
    ],
)
def test_what_is_no_hint_is_one_line(painter, grey, asked, line):
    with pytest.raises(ColorizeError, match=line) as error:
        edit(painter, grey, SIZE, asked)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_visitor_gives_hints(browser, hinted, tmp_path):  # noqa: F811, PLR0915
    save_weights(hinted, tmp_path / "weights")
    Image.fromarray(scene(0, 320, 240)).save(tmp_path / "photo.png")
    served = Served(tmp_path, tmp_path / "weights")
    page = browser.new_page(viewport={"width": 1200, "height": 1400})
    page.set_default_timeout(2 * WAIT)
    picture, points = page.locator("#hints .stage img"), page.locator("#hints .point")

    def until(count):
        page.wait_for_function(
            "n => document.querySelectorAll('#hints .point').length == n", arg=count
        )

    def changed(do):
        before = picture.get_attribute("src")
        do()
        page.wait_for_function(
            "old => document.querySelector('#hints .stage img').src != old", arg=before
        )

    def saved():
        with page.expect_download() as download:
            page.locator("[data-do=save]").click()
        download.value.save_as(tmp_path / "hints.json")
        return json.loads((tmp_path / "hints.json").read_text())

    def download(name):
        with page.expect_download() as download:
            page.locator("button:not([disabled])", has_text="Download at full size").click()
        download.value.save_as(tmp_path / name)

    try:
        page.goto(served.url)
        page.wait_for_selector("#examples img")
        upload(page, tmp_path / "photo.png")
        page.wait_for_selector("#hints .stage img[src^=data]")
        box = picture.bounding_box()
        picture.click(position={"x": box["width"] / 4, "y": box["height"] / 4})
        page.wait_for_selector("#hints .colors button")
        changed(page.locator("#hints .colors button").nth(3).click)
        until(1)
        (hint,) = saved()
        assert (hint["x"], hint["y"]) == pytest.approx((80, 60), abs=1)

        def drag():
            spot = points.bounding_box()
            page.mouse.move(spot["x"] + 11, spot["y"] + 11)
            page.mouse.down()
            page.mouse.move(spot["x"] + 11 + box["width"] / 2, spot["y"] + 11, steps=4)
            page.mouse.up()

        changed(drag)
        (moved,) = saved()
        assert (moved["x"], moved["y"]) == pytest.approx((240, 60), abs=3)
        changed(page.locator("[data-do=undo]").click)
        assert saved() == [hint]
        changed(page.locator("[data-do=clear]").click)
        until(0)
        load = page.locator("#hints .load input")
        changed(lambda: load.set_input_files(tmp_path / "hints.json"))
        until(1)
        assert saved() == [hint]
        page.locator("#hints .stage").focus()
        page.keyboard.press("Shift+ArrowRight")  # a cross in the middle
        page.wait_for_selector("#hints .colors button")
        page.keyboard.press("Enter")
        changed(lambda: page.keyboard.press("Enter"))
        until(2)
        page.locator("#full").click()
        download("result.png")
        given = [(hint["x"], hint["y"], hint["color"]) for hint in saved()]
        before = page.locator("#shown img").last.evaluate("img => img.src")
        changed(page.get_by_label("Look at the mirrored photo too").check)
        page.wait_for_function(
            """old => {
                const shown = [...document.querySelectorAll('#shown img')];
                return shown.length > 1 && shown.at(-1).src != old;
            }""",
            arg=before,
        )
        until(2)
        download("turned.png")
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == 390
    finally:
        page.close()
        served.stop()
    photo = Image.open(tmp_path / "photo.png")
    for name, flip in (("result", False), ("turned", True)):
        colorizer = Colorizer(hinted, device="cpu", flip=flip)
        images = Image.open(tmp_path / f"{name}.png"), colorizer(photo), colorizer(photo, given)
        found, plain, wanted = map(np.int16, images)
        assert np.abs(found - plain).max() > 5
        assert np.abs(found - wanted).max() <= 1


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    torch.manual_seed(1)
    generator = Generator(decoder_widths=(32, 16, 16, 8, 8), working_size=32, hints=True)
    torch.nn.init.normal_(generator.head.weight, std=0.5)
    folder = tmp_path_factory.mktemp("hints")
    save_weights(generator, folder / "weights")
    page = Served(folder, folder / "weights")
    yield page
    page.stop()


@pytest.fixture
def visit(browser, served, tmp_path):  # noqa: F811
    """Opens the page in a window and gives it a photo."""
    opened = []

    def visit(size=(320, 240), **window):
        page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}} | window)
        opened.append(page)
        page.set_default_timeout(2 * WAIT)
        page.goto(served.url)
        page.wait_for_selector("#examples img")
        Image.fromarray(scene(0, *size)).save(tmp_path / "photo.png")
        upload(page, tmp_path / "photo.png")
        page.wait_for_selector("#hints .stage img[src^=data]")
        page.wait_for_selector("#line:has-text('coloured in')")
        return page

    yield visit
    for page in opened:
        page.close()


def place(page, x, y):
    """Click on the photo, at shares of its sides; colours to choose from come."""
    picture = page.locator("#hints .stage img")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    picture.click(position={"x": box["width"] * x, "y": box["height"] * y})
    page.wait_for_selector("#hints .colors button")


def saved_hints(page, file):
    with page.expect_download() as download:
        page.locator("[data-do=save]").click()
    download.value.save_as(file)
    return json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(426, 640), (640, 427), (64, 48)])
@pytest.mark.parametrize(
    "window", [{}, {"viewport": {"width": 390, "height": 844}, "is_mobile": True}]
)
def test_photo_and_colours_are_seen_at_once(visit, tmp_path, size, window):
    page = visit(size, **window)
    place(page, 0.25, 0.75)
    parts = [page.locator(f"#hints {part}").bounding_box() for part in (".stage img", ".colors")]
    top, bottom = min(b["y"] for b in parts), max(b["y"] + b["height"] for b in parts)
    assert bottom - top < page.viewport_size["height"]
    assert parts[0]["width"] / parts[0]["height"] == pytest.approx(size[0] / size[1], rel=0.01)
    page.locator("#hints .colors button").nth(3).click()
    page.wait_for_selector("#hints .point")
    (hint,) = saved_hints(page, tmp_path / "hints.json")
    # A pixel of the screen is up to 1.4 of the photo's.
    assert (hint["x"], hint["y"]) == pytest.approx((size[0] / 4, size[1] * 3 / 4), abs=2)


@pytest.mark.slow
@pytest.mark.parametrize("height", [800, 844])
def test_points_and_download_belong_together(visit, height):
    window = {"width": 1280 if height == 800 else 390, "height": height}
    page = visit((426, 640), viewport=window, is_mobile=height == 844)
    line, full = page.locator("#line"), page.locator("#full")
    download = page.get_by_text("Download at full size")
    assert not full.is_visible()
    place(page, 0.5, 0.5)
    page.locator("#hints .colors button").nth(3).click()
    page.wait_for_selector("#line:has-text('1 point')")
    assert download.is_disabled()
    assert full.inner_text() in line.inner_text()  # it says what to press
    place(page, 0.2, 0.2)
    full.click()
    page.wait_for_selector("#hints .cross", state="hidden")
    page.wait_for_selector("#line:has-text('426 x 640 pixels')")
    page.wait_for_function(
        """() => {
            const box = document.getElementById("download").getBoundingClientRect();
            return box.top > 0 && box.bottom <= innerHeight + 1;
        }"""
    )
    assert download.is_enabled()
    place(page, 0.2, 0.2)
    page.locator("#hints .colors button").nth(2).click()
    page.wait_for_selector("#line:has-text('2 points')")
    page.locator("[data-do=clear]").click()
    page.wait_for_selector("#line:has-text('426 x 640 pixels')")
    assert download.is_enabled()
    assert not full.is_visible()


@pytest.mark.slow
def test_what_is_wrong_with_a_file_of_points_is_said_beside_its_button(visit, tmp_path):
    page = visit()
    (tmp_path / "bad.json").write_text("hello")
    (tmp_path / "good.json").write_text(json.dumps([RED | {"x": 20}]))
    before = page.locator("#line").inner_text()
    page.locator("#hints .load input").set_input_files(tmp_path / "bad.json")
    page.wait_for_selector("#hints .error:has-text('the file: is not JSON')")
    assert page.locator("#line").inner_text() == before
    assert page.locator("[data-do=undo]").is_disabled()
    page.locator("#hints .load input").set_input_files(tmp_path / "good.json")
    page.wait_for_selector("#hints .point")
    assert not page.locator("#hints .error").is_visible()
    page.locator("[data-do=undo]").click()
    page.wait_for_selector("#hints .point", state="detached")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_what_stands_in_a_row_is_alike(visit, width):
    page = visit(viewport={"width": width, "height": 800})
    place(page, 0.5, 0.5)
    row = page.locator("#hints .tools > *")
    assert len({row.nth(i).bounding_box()["height"] for i in range(row.count())}) == 1
    tops = [box.bounding_box()["y"] for box in page.locator("#hints .colors button").all()]
    assert len(set(tops)) <= 2  # lines of them
    picture = page.locator("#examples img").first.bounding_box()
    frame = page.locator("#examples").bounding_box()
    below = frame["y"] + frame["height"] - picture["y"] - picture["height"]
    assert 0 < below < 20
