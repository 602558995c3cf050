"""The web page: drop a photo, compare it with its coloured self, download that at full size."""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from colorize.folders import beside_each_other
from colorize.hints import Hint
from colorize.photos.pixels import upright
from colorize.photos.read import PHOTO_SUFFIXES, open_photo
from colorize.photos.sources import builtin_photos
from colorize.photos.write import result_name, save_photo
from colorize.predict import Colorizer, in_grey
from colorize.system.errors import ColorizeError, first_line, printable
from colorize.system.files import ASSETS
from colorize.web.hints import edit, hint_editor

_MOST_PIXELS = 50_000_000  # a stranger's photo may take less memory than one's own
_SHOWN_SIDE = 1600  # pixels of the longer side on the page; the download has all
_EXAMPLE_SIDE = 800
# Examples: of assets/photos, then so many of the built-in ones.
_OWN_PHOTOS = ("dogs", "mountains", "sunset", "fig", "expedition-1897")
_OTHERS = 2
_WAITING = 32  # photos in the queue; who comes later is told to try again
_KEPT = 3600  # seconds that photos and results stay on the disk
_SIZES = (64, 512)  # working sizes to choose from
_KNOB = 230  # pixels of width that the words of a knob need
_SMOOTHEST = 1000  # as on the command line
# Gradio's own events of a slider are silent on the keyboard, or tell of every pixel of a drag. The
# browser's tells once of each new value. Leaving a number lets gradio hold it against its ends.
_TURNED = """
const tell = () => setTimeout(() => trigger("change"));
element.addEventListener("change", tell);
element.addEventListener("click", (event) => {
  if (event.target.closest(".reset-button")) tell();
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.type === "number") event.target.blur();
});
"""
# What is inside of the knobs has its own padding. The examples are one row, however high.
CSS = "#knobs .html-container { padding: 0; } #examples .grid-wrap { min-height: 0; }"
_INTRO = """# Colour a photo
Drop a photo, or take one of the examples below; before you drop another, press the X beside the
first. Drag the line to compare. The lightness stays as it is, the colours are a guess. Photos and
results are deleted after an hour."""


def build_page(colorizer: Colorizer, folder: Path, busy: threading.Lock) -> gr.Blocks:
    """The page, not yet served.

    Args:
        folder: a temporary folder, in which gradio keeps its files under `cache`.
        busy: held while a photo is coloured.
    """
    results = folder / "cache" / "results"
    results.mkdir(parents=True)

    def color(
        photo: str | None,
        strength: float,
        size: float,
        smoothness: float,
        flip: bool,
        kept: list[Path],
        hints: Sequence[Hint] = (),
    ) -> tuple:
        nothing = None, gr.DownloadButton(value=None, interactive=False)
        if photo is None:
            return *nothing, "", kept
        try:
            painter = _tuned(colorizer, strength, size, smoothness, flip)
            with busy:
                shown, file, line = _color(painter, Path(photo), results, hints)
        except ColorizeError as error:
            return *nothing, f"**{error}**", kept
        for old in kept[:-1]:  # the last one may be on its way to the visitor
            shutil.rmtree(old.parent, ignore_errors=True)
        return shown, gr.DownloadButton(value=file, interactive=True), line, [*kept[-1:], file]

    def color_again(state: tuple | None, *knobs: Any) -> tuple:
        return color(*knobs, state[2] if state else ())

    examples = _examples(folder / "examples")
    with gr.Blocks(title="colorize", analytics_enabled=False, delete_cache=(600, _KEPT)) as page:
        gr.Markdown(_INTRO)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                photo = gr.File(
                    label="Photo", file_types=sorted(PHOTO_SUFFIXES), height=150, elem_id="photo"
                )
                _take_uploads_alone(photo)
            with gr.Column(scale=2, min_width=300):
                shown = gr.ImageSlider(
                    label="Grey and coloured",
                    type="pil",
                    format="jpeg",
                    interactive=False,
                    buttons=["fullscreen"],
                    max_height=640,
                    elem_id="shown",
                )
                line = gr.Markdown(elem_id="line")
                download = gr.DownloadButton(
                    "Download at full size",
                    interactive=False,
                    variant="primary",
                    elem_id="download",
                )
        editor = hint_editor()
        gallery = gr.Gallery(
            examples,
            show_label=False,
            columns=len(examples),
            height="auto",
            allow_preview=False,
            interactive=False,
            buttons=[],
            elem_id="examples",
        )
        with (
            gr.HTML(html_template="@children", js_on_load=_TURNED, elem_id="knobs") as turned,
            gr.Row(),
        ):
            strength = gr.Slider(
                0,
                2,
                1,
                step=0.05,
                label="Strength",
                info="0 is grey, 1 as predicted",
                min_width=_KNOB,
            )
            size = gr.Slider(
                min(_SIZES[0], colorizer.size),
                max(_SIZES[1], colorizer.size),
                colorizer.size,
                step=1,
                label="Working size",
                info="Shorter side, in pixels",
                min_width=_KNOB,
            )
            smoothness = gr.Slider(
                0,
                _SMOOTHEST,
                colorizer.smoothness,
                step=10,
                label="Smoothness",
                info="0 is the network's own",
                min_width=_KNOB,
            )
            flip = gr.Checkbox(
                label="Look at the mirrored photo too", info="Calmer colours", min_width=_KNOB
            )
        knobs = [photo, strength, size, smoothness, flip]
        for knob in knobs:
            _refuse_quietly(knob)
        kept = gr.State([])  # results of this visitor
        state = gr.State(None)  # the grey photo as shown, the size of the whole, and the hints

        def pick(event: gr.SelectData) -> str | None:
            return dict(enumerate(examples)).get(event.index)

        gallery.select(pick, None, photo, show_progress="hidden", api_visibility="private")
        outputs = [shown, download, line, kept]
        coloring = {
            "show_progress_on": shown,
            "trigger_mode": "always_last",
            "concurrency_limit": 1,  # one photo uses all cores
            "api_visibility": "private",
        }
        first = photo.change(color, [*knobs, kept], outputs, **coloring)
        again = turned.change(color_again, [state, *knobs, kept], outputs, **coloring)
        photo.clear(  # a photo that is still in work would come back
            lambda: (None, gr.DownloadButton(value=None, interactive=False), ""),
            None,
            [shown, download, line],
            cancels=[first, again],
            queue=False,
            api_visibility="private",
        )
        if colorizer.generator.hints:
            _take_hints(colorizer, busy, knobs, again, state, editor, color, kept, outputs)
            editor.click(color_again, [state, *knobs, kept], outputs, **coloring)
    return page.queue(max_size=_WAITING, api_open=False)


def _take_hints(
    colorizer: Colorizer,
    busy: threading.Lock,
    knobs: Sequence[gr.components.Component],
    again: gr.events.Dependency,
    state: gr.State,
    editor: gr.HTML,
    color: Callable[..., tuple],
    kept: gr.State,
    outputs: Sequence[gr.components.Component],
) -> None:
    """Let a visitor say what colour things are; the photo as shown follows at once."""
    photo, *settings = knobs

    def begin(photo: str | None, *settings: float) -> tuple:
        none = gr.HTML(value={}, visible=False), None
        if photo is None:
            return none
        try:
            with busy:
                image = open_photo(Path(photo), most_pixels=_MOST_PIXELS)
                size = upright(image).size
                grey, _ = map(_fit, beside_each_other(image, image))
                value, _ = edit(_tuned(colorizer, *settings), grey, size, {})
        except (ColorizeError, OSError, ValueError, RuntimeError, MemoryError):
            return none  # the other half of the page says why
        return gr.HTML(value=value | {"fresh": True}, visible=True), (grey, size, [])

    def change(
        state: tuple | None,
        photo: str | None,
        strength: float,
        size: float,
        smoothness: float,
        flip: bool,
        kept: list[Path],
        event: gr.EventData,
    ) -> tuple:
        rest = [gr.skip() for _ in outputs]
        if state is None:
            return gr.skip(), state, *rest
        grey, whole, _ = state
        started = time.perf_counter()
        asked = event._data if isinstance(event._data, dict) else {}
        try:
            with busy:
                painter = _tuned(colorizer, strength, size, smoothness, flip)
                value, colored = edit(painter, grey, whole, asked)
        except ColorizeError as error:
            told = f"{'the file: ' * ('file' in asked)}{printable(str(error))}"
            return {"error": told}, state, *rest
        if colored is None:
            return value, state, *rest
        hints = [(hint["x"], hint["y"], hint["color"]) for hint in value["hints"]]
        state = (grey, whole, hints)
        if not hints:  # as the photo was at first
            return value, state, *color(photo, strength, size, smoothness, flip, kept)
        count = "1 point" if len(hints) == 1 else f"{len(hints)} points"
        told = f"{count}, coloured in {time.perf_counter() - started:.1f} s. To download, first "
        told += 'press "Colour the full size with these points" below.'
        none = gr.DownloadButton(value=None, interactive=False)  # it is of other colours
        return value, state, (grey, colored), none, told, kept

    def turn(state: tuple | None, *settings: float) -> dict:
        if state is None:
            return gr.skip()
        grey, whole, hints = state
        asked = {"hints": [dict(zip(("x", "y", "color"), hint, strict=True)) for hint in hints]}
        try:
            with busy:
                return edit(_tuned(colorizer, *settings), grey, whole, asked)[0]
        except ColorizeError:
            return gr.skip()  # the other half of the page says why

    private = {"api_visibility": "private", "concurrency_limit": 1, "show_progress": "hidden"}
    # Two of "always_last" at one event would each start the other again, without an end.
    photo.change(begin, knobs, [editor, state], trigger_mode="multiple", **private)
    again.then(turn, [state, *settings], editor, **private)
    editor.submit(
        change,
        [state, *knobs, kept],
        [editor, state, *outputs],
        trigger_mode="multiple",
        **private,
    )


def _take_uploads_alone(photo: gr.File) -> None:
    """Gradio would also fetch an address that a client names."""
    move = photo.async_move_resource_to_block_cache

    async def move_upload(path: str | Path | None) -> str | None:
        if "://" in str(path):
            raise gr.Error("give a photo, not an address", print_exception=False)
        return await move(path)

    # Not in a subclass: of those gradio writes a stub file beside the source.
    photo.async_move_resource_to_block_cache = move_upload


def _refuse_quietly(component: gr.components.Component) -> None:
    """What gradio itself refuses is said on the page, not also as a traceback on the server."""
    take = component.preprocess

    def preprocess(payload: Any) -> Any:
        try:
            return take(payload)
        except gr.Error as error:
            raise gr.Error(error.message, print_exception=False) from None

    component.preprocess = preprocess


def _tuned(
    colorizer: Colorizer, strength: float, size: float, smoothness: float, flip: bool
) -> Colorizer:
    """The colorizer with a visitor's settings."""
    # Gradio holds numbers against the sliders' ends, which this is neither below nor above.
    if any(map(math.isnan, (strength, size, smoothness))):
        raise ColorizeError("that is no number")
    return Colorizer(colorizer.generator, int(size), colorizer.device, strength, flip, smoothness)


def _color(
    colorizer: Colorizer, photo: Path, results: Path, hints: Sequence[Hint] = ()
) -> tuple[tuple[Image.Image, Image.Image], Path, str]:
    """Grey and coloured as shown, the file to download, and a line about it.

    Raises:
        ColorizeError: the photo cannot be coloured; without the place it was uploaded to.
    """
    started = time.perf_counter()
    try:
        image = open_photo(photo, most_pixels=_MOST_PIXELS)
        colored = colorizer(image, hints)
        name = result_name(Path(photo.name))
        if name.suffix.lower() not in PHOTO_SUFFIXES:
            name = name.with_suffix(".png")
        file = Path(tempfile.mkdtemp(dir=results)) / f"{name.stem}-coloured{name.suffix}"
        lost = save_photo(colored, file, like=image)
        shown = tuple(map(_fit, beside_each_other(image, colored)))
    except (ColorizeError, OSError, ValueError, RuntimeError, MemoryError) as error:
        reason = str(error) if isinstance(error, ColorizeError) else first_line(error)
        reason = reason.replace(f"{photo}: ", "").replace(str(photo), photo.name)
        raise ColorizeError(printable(reason)) from error
    seconds = time.perf_counter() - started
    line = f"{colored.width} x {colored.height} pixels, coloured in {seconds:.1f} s"
    if image.info.get("deep"):
        line += "; more than 8 bits a channel became 8"
    if (pages := image.info.get("pages", 1)) > 1:
        line += f"; the first of {pages} pages is coloured"
    if lost:
        line += f"; the result does not hold the photo's {', '.join(lost)}"
    return shown, file, line


def _fit(image: Image.Image) -> Image.Image:
    image.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE), Image.Resampling.LANCZOS)
    return image


def _examples(folder: Path) -> list[str]:
    """Photos in grey, written to a folder."""
    folder.mkdir()
    files = []
    own = [ASSETS / "photos" / f"{name}.jpg" for name in _OWN_PHOTOS]
    for path in (*own, *builtin_photos()[:_OTHERS]):
        grey = in_grey(open_photo(path, at_least=_EXAMPLE_SIDE))
        grey.thumbnail((_EXAMPLE_SIDE, _EXAMPLE_SIDE), Image.Resampling.LANCZOS)
        file = folder / f"{path.stem}.jpg"
        grey.save(file, quality=90)
        files.append(str(file))
    return files
