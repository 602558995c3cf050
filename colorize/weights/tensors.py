"""Safetensors files: written, and read though a stranger may have written them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from colorize.system.errors import ColorizeError, printable

_FLOATS = ("F64", "F32", "F16", "BF16")
_COUNTERS = ("I64", "I32")  # batch norm counts batches
_LARGEST = 2**33  # bytes; the widest network has less than half of that in double precision
_SHOWN = 60  # characters of a name


def write_tensors(file: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors by name.

    Not by the package's own `save_file`: its error is not the system's where a disk is full, and
    it lets nobody else read the file.
    """
    whole = {name: value.contiguous() for name, value in state.items()}
    file.write_bytes(save(whole, {"format": "pt"}))


def read_tensors(file: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by name, of the names and shapes of `expected`, in the file's precision.

    Nothing but the file's header is read before all of them fit: a file of absurd size is refused
    before it takes memory.

    Raises:
        ColorizeError: names, shapes or types are others, or some values are no numbers.
        SafetensorError: the file is damaged.
    """
    if (size := file.stat().st_size) > _LARGEST:
        raise ColorizeError(
            f"{file.name} has {size:,} bytes, more than any network here; give other weights"
        )
    with safe_open(file, framework="pt") as stored:
        names = stored.keys()
        found = {name: stored.get_slice(name) for name in names}
        wrong = sorted(
            name
            for name in found.keys() | expected.keys()
            if name not in found
            or name not in expected
            or found[name].get_shape() != list(expected[name].shape)
        )
        if wrong:
            raise ColorizeError(
                f"the weights do not fit the network that config.json describes: {len(wrong)} keys "
                f"differ, first {', '.join(printable(name[:_SHOWN]) for name in wrong[:3])}"
            )
        for name, part in found.items():
            kinds = _FLOATS if expected[name].is_floating_point() else _FLOATS + _COUNTERS
            if (kind := part.get_dtype()) not in kinds:
                raise ColorizeError(
                    f"{file.name} holds {kind} for {name}, not one of {', '.join(kinds)}; "
                    "give weights of 16, 32 or 64 bits"
                )
        state = {name: stored.get_tensor(name) for name in found}
    # As float32, in which the network computes: a larger float64 would become infinity.
    odd = sorted(name for name, values in state.items() if not values.float().isfinite().all())
    if odd:
        raise ColorizeError(
            f"{file.name} holds values that are no numbers in {len(odd)} of its tensors, first "
            f"{odd[0]}; give other weights, or train again"
        )
    return state
