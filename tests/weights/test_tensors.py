"""Strangers' safetensors files: refused before they take memory, or read as they are."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks.machine import peak_gb
from colorize.pretrained import load_generator, save_weights
from colorize.system.errors import ColorizeError
from colorize.weights.tensors import read_tensors

EXPECTED = {"weight": torch.zeros(2, 3), "count": torch.tensor(0)}


def write(path, **changed):
    save_file({**EXPECTED, **changed}, path)
    return path


@pytest.mark.parametrize("kind", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_precision_is_read(tmp_path, kind):
    weight = torch.arange(6.0).view(2, 3).to(kind)
    state = read_tensors(write(tmp_path / "a.safetensors", weight=weight), EXPECTED)
    assert state["weight"].dtype == kind
    assert torch.equal(state["weight"], weight)
    assert state["count"].dtype == torch.int64


def test_weights_halved_to_save_room_still_load(small_generator, tmp_path):
    save_weights(small_generator, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file({name: x.half() for name, x in state.items()}, tmp_path / "model.safetensors")
    loaded = load_generator(tmp_path).state_dict()
    for name, value in small_generator.state_dict().items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value.half().to(value.dtype))


@pytest.mark.parametrize("kind", [torch.int64, torch.int8, torch.bool, torch.float8_e4m3fn])
def test_weights_that_are_not_floating_are_refused(tmp_path, kind):
    file = write(tmp_path / "a.safetensors", weight=torch.zeros(2, 3).to(kind))
    with pytest.raises(ColorizeError, match=r"a\.safetensors holds \w+ for weight, not one of F64"):
        read_tensors(file, EXPECTED)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_values_that_are_no_numbers_are_refused(tmp_path, value):
    weight = torch.zeros(2, 3, dtype=torch.float64)
    weight[1, 1] = value
    file = write(tmp_path / "a.safetensors", weight=weight)
    with pytest.raises(ColorizeError, match=r"no numbers in 1 of its tensors, first weight"):
        read_tensors(file, EXPECTED)


def test_names_are_shown_in_one_line(tmp_path):
    file = write(tmp_path / "a.safetensors", **{"\n" * 1000: torch.zeros(1)})
    with pytest.raises(ColorizeError, match="1 keys differ") as error:
        read_tensors(file, EXPECTED)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("size", "reason"), [(2**31, "2 keys differ, first count, weight"), (2**40, "more than any")]
)
def test_a_file_of_absurd_size_is_refused_unread(tmp_path, size, reason):
    """Sparse files: a page on the disk, gigabytes if they were read."""
    part = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"weight": part}).encode()
    file = tmp_path / "a.safetensors"
    file.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(file, 8 + len(header) + size)
    before = peak_gb("cpu")
    with pytest.raises(ColorizeError, match=reason):
        read_tensors(file, EXPECTED)
    assert peak_gb("cpu") - before < 0.5
