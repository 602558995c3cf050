"""Trained networks: load, save and export them, and those that come along."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from safetensors import SafetensorError
from torch.export import Dim

from colorize.color import AB_SCALE, L_SCALE
from colorize.generator import MIN_SIDE, Generator
from colorize.system.errors import ColorizeError, first_line
from colorize.system.files import ASSETS, folder_beside, put, write_whole
from colorize.weights.card import CARD_NAME

SHIPPED = "general"  # which of `assets/weights` come along

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name
_WEIGHTS = (CONFIG_NAME, SAFETENSORS_SINGLE_FILE)
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_NO_PICKLE = "is a pickle, which can run code when it is loaded"
# What the hub's client raises at a config.json that is no JSON, or no object.
_BAD_CONFIG = (json.JSONDecodeError, UnicodeDecodeError, AttributeError, RecursionError)


def save_weights(generator: Generator, folder: Path) -> None:
    """Write a weights folder: `config.json`, `model.safetensors`, and a model card if it has none.

    Over an older one, file by file and each whole: at no moment is there none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with folder_beside(folder) as temporary:
        generator.save_pretrained(temporary)
        for file in temporary.iterdir():
            if file.name != CARD_NAME or not (folder / CARD_NAME).exists():
                put(file, folder / file.name)


def shipped_weights() -> Path | None:
    """The folder of the weights that come with this project; a notebook that is alone has none."""
    folder = ASSETS / "weights" / SHIPPED
    return folder if folder.is_dir() else None


def load_generator(weights: str | Path | None = None) -> Generator:
    """Load a generator, ready to predict, from a weights folder or by its hub name.

    Args:
        weights: None takes those that come with this project.

    Raises:
        ColorizeError: neither a weights folder nor within reach, or the weights do not fit.
    """
    if weights is None and (weights := shipped_weights()) is None:
        raise ColorizeError(
            f"no weights are named, and assets/weights/{SHIPPED} did not come along; name a run's "
            "generator/ or weights on the hub"
        )
    _check_place(weights)
    try:
        return Generator.from_pretrained(str(weights))
    except ColorizeError as error:
        raise ColorizeError(f"{weights}: {error}") from error
    except SafetensorError as error:
        raise ColorizeError(f"{weights}: {SAFETENSORS_SINGLE_FILE} is damaged ({error})") from error
    except Exception as error:  # bad JSON, or the hub client's own errors
        here = Path(weights).is_dir()
        what = "cannot be read" if here else "no such folder here, nor to be had from the hub"
        if isinstance(error, _BAD_CONFIG):
            what = f"{CONFIG_NAME} is damaged"
        raise ColorizeError(f"{weights}: {what} ({first_line(error)})") from error


def _check_place(weights: str | Path) -> None:
    """Refuse what is neither a weights folder nor may be a hub name."""
    folder = Path(weights)
    if folder.is_dir():
        if missing := [name for name in _WEIGHTS if not (folder / name).is_file()]:
            hint = f"; try {folder / 'generator'}" if (folder / "generator").is_dir() else ""
            pickles = sorted(f.name for f in folder.iterdir() if f.suffix.lower() in _PICKLES)
            if pickles and SAFETENSORS_SINGLE_FILE in missing:
                hint = f"; {pickles[0]} {_NO_PICKLE}{hint}"
            raise ColorizeError(
                f"{weights}: no weights folder, it has no {' and no '.join(missing)}{hint}"
            )
    elif folder.is_file():
        pickled = folder.suffix.lower() in _PICKLES
        what = f"{_NO_PICKLE}; give a folder" if pickled else "is a file; give its folder"
        raise ColorizeError(f"{weights}: {what} with {' and '.join(_WEIGHTS)}")
    elif not _HUB_NAME.fullmatch(str(weights)) or folder.parent.is_dir():
        raise ColorizeError(f"{weights}: no such weights folder; a run keeps one in RUN/generator")


_NEEDED = ("onnx", "onnxscript")


def export_onnx(weights: str | Path | None, out: Path) -> bool:
    """Write a generator as ONNX: input "L" (B, 1, H, W), output "ab" (B, 2, H, W), any B, H and W.

    One that knows colour hints takes them as a second input "hints" (B, 3, H, W), see `hints.py`;
    left out, there are none.

    The file's metadata say how to scale: the input is L / L_scale - 1, the output ab / ab_scale;
    and `working_size`, the shorter side of the photos that it was trained on.

    Args:
        weights: a weights folder, or a hub name; None takes those that come along.

    Returns:
        Whether it knows hints.

    Raises:
        ColorizeError: no such weights, or a package is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ColorizeError(f"exporting needs more packages: pip install {' '.join(missing)}")
    generator = load_generator(weights)
    # Sizes that are neither equal nor multiples of 32, so that none is taken for a constant.
    examples = [torch.zeros(2, 1, 2 * MIN_SIDE + 3, 3 * MIN_SIDE + 5)]
    if generator.hints:
        examples.append(examples[0].expand(-1, 3, -1, -1).clone())
    program = torch.onnx.export(
        generator,
        tuple(examples),
        input_names=["L", "hints"][: len(examples)],
        output_names=["ab"],
        dynamic_shapes=({0: "batch", 2: "height", 3: "width"}, dict.fromkeys((0, 2, 3), Dim.AUTO))[
            : len(examples)
        ],
        dynamo=True,
        verbose=False,
    )
    if generator.hints:
        _make_hints_optional(program.model.graph)
    program.model.metadata_props.update(
        L_scale=str(L_SCALE), ab_scale=str(AB_SCALE), working_size=str(generator.working_size)
    )
    with write_whole(out) as temporary:
        program.save(temporary, external_data=False)
    return generator.hints


def _make_hints_optional(graph: Any) -> None:
    """Let hints that are left out be zeros, of the size of L."""
    from onnxscript import ir

    L, hints = graph.inputs
    zeros = ir.tensor(np.zeros((1, 3, 1, 1), np.float32), name="hints")
    given = ir.Value(name="hints", type=hints.type, const_value=zeros)
    given.shape = ir.Shape(["hints_batch", 3, "hints_height", "hints_width"])
    hints.name = "all_hints"
    size = ir.node("Shape", [L])
    spread = ir.node("Expand", [given, size.outputs[0]])
    spread.outputs[0].shape, spread.outputs[0].type = hints.shape, hints.type
    ir.convenience.replace_all_uses_with(hints, spread.outputs[0])
    graph.inputs[1] = given
    graph.register_initializer(given)
    graph.insert_before(graph[0], [size, spread])
