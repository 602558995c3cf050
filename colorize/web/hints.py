"""The page's hints: a photo to click on, colours to choose from, a list, undo, save and load.

The script below draws and keeps the hints; each change goes to the server, which colours the photo
at the size that is shown, and suggests colours for the place that is chosen.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from io import BytesIO

import gradio as gr
import numpy as np
import torch
from PIL import Image

from colorize.color import fit_to_gamut, lab_to_rgb, rgb_to_lab
from colorize.hints import Hint, checked, parse_hints
from colorize.metrics import to_uint8
from colorize.predict import Colorizer, to_tensor, working_shape
from colorize.system.errors import ColorizeError

_LONGEST = 50_000  # characters of a list, some thousand hints
_TURNS = (0, 40, -40, 90, -90, 180)  # degrees on the colour wheel from what the network would take
_DARKEST = 35.0  # L* of a suggestion
_PALE, _VIVID = 20.0, 1.6  # chroma of a suggestion: at least, and as a multiple


def edit(
    colorizer: Colorizer, grey: Image.Image, size: tuple[int, int], asked: dict
) -> tuple[dict, Image.Image | None]:
    """What the page shows after a change of the hints.

    Args:
        grey: the photo as it is shown.
        size: width and height of the photo itself, which hints are in pixels of.
        asked: by the page: `hints`, or the `file` of a saved list; and `chosen`, a place.

    Returns:
        The component's value, and the photo in colour, unless the place alone has changed.

    Raises:
        ColorizeError: what the page sent are no hints for this photo.
    """
    text = asked["file"] if "file" in asked else json.dumps(asked.get("hints", []))
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise ColorizeError(f"hints: more than {_LONGEST} characters")
    hints, chosen, place = parse_hints(text, size), asked.get("chosen"), asked.get("place")
    value = {"hints": [{"x": x, "y": y, "color": _hex(rgb)} for x, y, rgb in hints]}
    value |= {"width": size[0], "height": size[1], "colors": []}
    others = hints
    if type(chosen) is int and 0 <= chosen < len(hints):
        place, others = hints[chosen][:2], hints[:chosen] + hints[chosen + 1 :]
    if isinstance(place, list | tuple):
        ((*place, _),) = checked([(*place, "gray")], size)
        value["colors"] = _suggestions(colorizer, grey, size, others, place)
    if asked.get("same"):  # the colours are
        return value, None
    colored = colorizer(grey, _scaled(hints, size, grey.size))
    return value | {"picture": as_url(colored), "loaded": "file" in asked}, colored


def _suggestions(
    colorizer: Colorizer,
    grey: Image.Image,
    size: tuple[int, int],
    hints: Sequence[Hint],
    place: Sequence[float],
) -> list[str]:
    """Colours for a place: what the network would take, then around the wheel.

    They have the place's lightness, but are never so dark that they could not be told apart: the
    lightness of a hint does not count.
    """
    small = grey.resize(working_shape(*grey.size, colorizer.size), Image.Resampling.BICUBIC)
    colored = colorizer(small, _scaled(hints, size, small.size))
    ((x, y, _),) = _scaled([(*place, "gray")], size, small.size)
    lab = rgb_to_lab(to_tensor(np.array(colored))[:, :, int(y), int(x)].view(1, 3, 1, 1))
    L, a, b = lab.flatten().tolist()
    hue, chroma = np.arctan2(b, a), max(np.hypot(a, b) * _VIVID, _PALE)
    angles = hue + np.radians(_TURNS)
    ab = np.stack((np.cos(angles), np.sin(angles))) * chroma
    wheel = np.concatenate((np.full((1, len(_TURNS)), L), ab)).T.reshape(-1, 3, 1, 1)
    grey_of_it = lab.new_tensor([L, 0, 0]).view(1, 3, 1, 1)
    labs = torch.cat((lab, torch.from_numpy(wheel).float(), grey_of_it))
    labs[:, 0].clamp_(min=_DARKEST)
    colors = to_uint8(lab_to_rgb(fit_to_gamut(labs))).flatten(1).tolist()
    return list(dict.fromkeys(map(_hex, colors)))


def _scaled(hints: Sequence[Hint], size: tuple[int, int], shown: tuple[int, int]) -> list[Hint]:
    """The same places in another size of the photo."""

    def scaled(at: float, old: int, new: int) -> float:
        return min(max((at + 0.5) * new / old - 0.5, 0.0), new - 1.0)

    return [
        (scaled(x, size[0], shown[0]), scaled(y, size[1], shown[1]), rgb) for x, y, rgb in hints
    ]


def _hex(rgb: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def as_url(image: Image.Image) -> str:
    file = BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def hint_editor() -> gr.HTML:
    """The component; `submit` brings what `edit` is asked, `click` asks for the full size."""
    return gr.HTML(
        value={},
        html_template=_TEMPLATE,
        css_template=_STYLE,
        js_on_load=_SCRIPT,
        elem_id="hints",
        visible=False,
    )


_TEMPLATE = """
<p>Click on something whose colour you know, then choose it. Drag a point to move it.</p>
<div class="desk">
<div class="stage" tabindex="0" role="application"
  aria-label="The photo. Arrow keys move the cross or the chosen point, Enter goes to its colours,
  Delete removes it.">
  <img alt="The photo in colour" draggable="false"><div class="cross" hidden></div>
  <div class="points"></div>
</div>
<div class="side">
<div class="colors" role="group" aria-label="Colours for this place"></div>
<div class="tools">
  <label class="free">Another colour <input type="color" class="pick" value="#a03020"></label>
  <button type="button" data-do="delete">Delete point</button>
  <button type="button" data-do="undo">Undo</button>
  <button type="button" data-do="clear">Clear</button>
  <button type="button" data-do="save">Save points</button>
  <label class="load" tabindex="0">Load points
    <input type="file" accept=".json,application/json"></label>
</div>
<p class="error" role="alert"></p>
<ol class="list" aria-label="Points"></ol>
<button type="button" data-do="full" id="full">Colour the full size with these points</button>
</div>
</div>
"""

_STYLE = """
/* Photo and colours are to be seen at once: beside each other where there is room. */
.desk { display: flex; flex-wrap: wrap; gap: 0 16px; }
.side { flex: 1 1 280px; }
.stage { position: relative; width: min(100%, 60vh * var(--ratio)); height: fit-content;
  touch-action: manipulation; cursor: crosshair; line-height: 0; }
.stage:focus-visible { outline: 3px solid var(--color-accent); }
.stage img { width: 100%; margin: 0; border-radius: 8px; user-select: none; }
.point, .cross { position: absolute; transform: translate(-50%, -50%); border-radius: 50%; }
.point { width: 22px; height: 22px; padding: 0; border: 2px solid white; touch-action: none;
  box-shadow: 0 0 0 1px black; cursor: grab; }
.point.chosen { box-shadow: 0 0 0 2px black, 0 0 0 5px var(--color-accent); }
.cross { width: 26px; height: 26px; border: 2px dashed white; box-shadow: 0 0 0 1px black;
  pointer-events: none; }
.cross[hidden] { display: none; }
.colors, .tools { display: flex; flex-wrap: wrap; gap: 8px; margin: 8px 0; align-items: center; }
.colors { min-height: 40px; }
.side button, .side label { margin: 0; box-shadow: none; font-size: 14px; line-height: 20px; }
.colors button { width: 40px; height: 40px; border-radius: 8px; border: 1px solid #888; }
.tools button, .tools label { height: 38px; box-sizing: border-box; padding: 8px 12px;
  border: 1px solid var(--border-color-primary); border-radius: 8px; cursor: pointer;
  background: var(--button-secondary-background-fill); color: var(--body-text-color); }
.tools button { font-weight: normal; }
.tools button:disabled { opacity: 0.4; }
.free input { width: 32px; height: 20px; padding: 0; border: 0; vertical-align: middle; }
.load input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.error { color: var(--error-icon-color); margin: 8px 0; }
.error:empty { display: none; }
#full { display: block; margin: 16px 0; padding: 10px 16px; border-radius: 8px; font-weight: 600;
  color: var(--button-primary-text-color); background: var(--button-primary-background-fill); }
#full[hidden] { display: none; }
.list { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 6px; margin: 0; }
.list button { display: flex; gap: 6px; align-items: center; padding: 4px 8px; border-radius: 8px;
  border: 1px solid var(--border-color-primary); color: var(--body-text-color); }
.list button.chosen { border-color: var(--color-accent); }
.list i { width: 16px; height: 16px; border-radius: 4px; border: 1px solid #888; }
"""

_SCRIPT = """
const $ = (what) => element.querySelector(what);
let hints = [], chosen = -1, place = null, before = [], size = [0, 0], drag = null;

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const remember = () => { before.push(hints.map((h) => ({...h}))); before = before.slice(-100); };
const ask = (more) => trigger("submit", {hints, chosen, place, ...more});
const style = (node, x, y) => {
  node.style.left = `${100 * (x + 0.5) / size[0]}%`;
  node.style.top = `${100 * (y + 0.5) / size[1]}%`;
};

function draw() {
  $(".points").replaceChildren(...hints.map((hint, i) => {
    const node = document.createElement("button");
    node.type = "button";
    node.tabIndex = -1;
    node.className = i === chosen ? "point chosen" : "point";
    node.dataset.point = i;
    node.style.background = hint.color;
    node.setAttribute("aria-label", `Point ${i + 1}, ${hint.color}`);
    style(node, hint.x, hint.y);
    return node;
  }));
  $(".cross").hidden = !place;
  if (place) style($(".cross"), ...place);
  $(".list").replaceChildren(...hints.map((hint, i) => {
    const row = document.createElement("li"), node = document.createElement("button");
    const swatch = document.createElement("i");
    node.type = "button";
    node.className = i === chosen ? "chosen" : "";
    node.dataset.point = i;
    swatch.style.background = hint.color;
    node.append(swatch, `${Math.round(hint.x)}, ${Math.round(hint.y)}`);
    row.append(node);
    return row;
  }));
  $("[data-do=delete]").disabled = chosen < 0;
  $("[data-do=undo]").disabled = !before.length;
  $("#full").hidden = !hints.length;
  $("[data-do=clear]").disabled = $("[data-do=save]").disabled = !hints.length;
  if (chosen >= 0) $(".pick").value = hints[chosen].color;
}

function showColors(colors) {
  $(".colors").replaceChildren(...colors.map((color) => {
    const node = document.createElement("button");
    node.type = "button";
    node.dataset.color = color;
    node.style.background = color;
    node.title = color;
    node.setAttribute("aria-label", `Colour ${color}`);
    return node;
  }));
}

function setColor(color) {
  if (chosen < 0 && !place) return;
  remember();
  if (chosen < 0) {
    hints.push({x: place[0], y: place[1], color});
    chosen = hints.length - 1;
    place = null;
  } else hints[chosen].color = color;
  draw();
  ask({chosen: -1, place: null});  // the colours to choose from stay, and need not be found again
}

function choose(i) { chosen = i; place = null; draw(); ask({same: true}); }
function look(x, y) { chosen = -1; place = [x, y]; draw(); ask({same: true}); }

function at(event) {
  const box = $("img").getBoundingClientRect();
  const inside = (value, most) => Math.min(Math.max(Math.floor(value), 0), most - 1);
  return [inside((event.clientX - box.left) / box.width * size[0], size[0]),
    inside((event.clientY - box.top) / box.height * size[1], size[1])];
}

const actions = {
  delete() { remember(); hints.splice(chosen, 1); chosen = -1; showColors([]); draw(); ask(); },
  undo() { hints = before.pop(); chosen = -1; place = null; showColors([]); draw(); ask(); },
  clear() { remember(); hints = []; chosen = -1; place = null; showColors([]); draw(); ask(); },
  save() {
    const link = document.createElement("a");
    const rows = hints.map(({x, y, color}) => "  " + JSON.stringify({x, y, color}));
    const text = "[\\n" + rows.join(",\\n") + "\\n]\\n";
    link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
    link.download = "hints.json";
    link.click();
    URL.revokeObjectURL(link.href);
  },
  full() {
    place = null;
    draw();
    trigger("click");
    // What is waited for is seen there.
    document.getElementById("download").scrollIntoView({block: "end", behavior: "smooth"});
  },
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button?.dataset.do) actions[button.dataset.do]();
  else if (button?.dataset.color) setColor(button.dataset.color);
  else if (button?.dataset.point && button.closest(".list")) choose(+button.dataset.point);
  else if (event.target.closest(".stage") && !button && size[0]) look(...at(event));
});

element.addEventListener("pointerdown", (event) => {
  const point = event.target.closest(".point");
  if (!point) return;
  event.preventDefault();
  drag = {i: +point.dataset.point, from: hints.map((h) => ({...h})), moved: false};
  element.setPointerCapture(event.pointerId);
});
element.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const [x, y] = at(event), hint = hints[drag.i];
  if (!drag.moved && Math.hypot(event.movementX, event.movementY) === 0) return;
  drag.moved = true;
  [hint.x, hint.y] = [x, y];
  chosen = drag.i;
  place = null;
  draw();
});
element.addEventListener("pointerup", (event) => {
  if (!drag) return;
  const {i, from, moved} = drag;
  drag = null;
  element.releasePointerCapture(event.pointerId);
  if (moved && !same(from, hints)) { before.push(from); draw(); ask(); } else choose(i);
});
element.addEventListener("pointercancel", () => {
  if (drag) { hints = drag.from; drag = null; draw(); }
});

element.addEventListener("change", (event) => {
  if (event.target.matches(".pick")) setColor(event.target.value);
  if (event.target.matches(".load input") && event.target.files.length) {
    event.target.files[0].text().then((file) => trigger("submit", {file}));
    event.target.value = "";
  }
});

let later;
element.addEventListener("keydown", (event) => {
  if (event.target.matches(".load") && ["Enter", " "].includes(event.key)) $(".load input").click();
  if (!event.target.matches(".stage")) return;
  const step = Math.max(1, Math.round(size[0] / (event.shiftKey ? 20 : 200)));
  const move = {ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step],
    ArrowDown: [0, step]}[event.key];
  if (move) {
    event.preventDefault();
    const inside = (value, most) => Math.min(Math.max(value, 0), most - 1);
    const from = chosen >= 0 ? [hints[chosen].x, hints[chosen].y]
      : place || [size[0] >> 1, size[1] >> 1];
    const to = [inside(from[0] + move[0], size[0]), inside(from[1] + move[1], size[1])];
    if (chosen >= 0) {
      if (!later) remember();
      [hints[chosen].x, hints[chosen].y] = to;
    } else place = to;
    draw();
    clearTimeout(later);
    later = setTimeout(() => { later = null; ask({same: chosen < 0}); }, 400);
  } else if (event.key === "Enter" && place) $(".colors button")?.focus();
  else if (event.key === "Delete" && chosen >= 0) actions.delete();
  else if (event.key === "z" && (event.ctrlKey || event.metaKey) && before.length) actions.undo();
});

function received() {
  const value = props.value;
  $(".error").textContent = value?.error || "";
  if (!value || !value.width) return;
  if (value.fresh) before = [];
  if (value.loaded) remember();
  if (value.fresh || value.loaded) { hints = value.hints; chosen = -1; place = null; }
  size = [value.width, value.height];
  $(".stage").style.setProperty("--ratio", size[0] / size[1]);
  if (value.picture) $("img").src = value.picture;
  // Those there are of the same place where none were asked for.
  if (value.colors.length || (chosen < 0 && !place)) showColors(value.colors);
  draw();
}
watch("value", received);
received();
"""
