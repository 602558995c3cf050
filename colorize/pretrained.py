"""The generator as an ONNX file, for programs without PyTorch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

from colorize.checkpoint import load_generator
from colorize.color import AB_SCALE, L_SCALE
from colorize.errors import ColorizeError
from colorize.files import write_whole
from colorize.generator import MIN_SIDE

_NEEDED = ("onnx", "onnxscript")


def export_onnx(weights: str | Path | None, out: Path) -> None:
    """Write a generator as ONNX: input "L" (B, 1, H, W), output "ab" (B, 2, H, W), any B, H and W.

    The file's metadata say how to scale: the input is L / L_scale - 1, the output ab / ab_scale;
    and `working_size`, the shorter side of the photos that it was trained on.

    Args:
        weights: a weights folder, or a hub name; None takes those of the checkout.

    Raises:
        ColorizeError: no such weights, or a package is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ColorizeError(f"exporting needs more packages: pip install {' '.join(missing)}")
    generator = load_generator(weights)
    # Sizes that are neither equal nor multiples of 32, so that none is taken for a constant.
    example = torch.zeros(2, 1, 2 * MIN_SIDE + 3, 3 * MIN_SIDE + 5)
    shapes = ({0: "batch", 2: "height", 3: "width"},)
    program = torch.onnx.export(
        generator,
        (example,),
        input_names=["L"],
        output_names=["ab"],
        dynamic_shapes=shapes,
        dynamo=True,
        verbose=False,
    )
    program.model.metadata_props.update(
        L_scale=str(L_SCALE), ab_scale=str(AB_SCALE), working_size=str(generator.working_size)
    )
    with write_whole(out) as temporary:
        program.save(temporary, external_data=False)
