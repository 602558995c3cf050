"""Checkpoints are written whole or not at all, and bad ones are refused with a reason."""

import hashlib
import pickle
import re

import pytest
import torch
from conftest import Evil

from colorize.system.errors import ColorizeError
from colorize.training.checkpoint import (
    checkpoint_path,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

NONE_WHOLE = "^{}: no checkpoint that is not damaged; delete this folder and start again$"


def test_checkpoints_come_back(tmp_path):
    state = {"epoch": 3, "parts": {"a": torch.arange(4)}, "history": [{"l1": 0.5}]}
    save_checkpoint(tmp_path / "checkpoints" / "last.pt", state)
    loaded = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["parts"]["a"], torch.arange(4))


def test_a_checkpoint_that_lacks_something_is_of_another_version(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {"epoch": 3})
    assert load_checkpoint(tmp_path / "last.pt", {"epoch"})["epoch"] == 3
    with pytest.raises(ColorizeError, match=r"last\.pt: not a checkpoint of this version"):
        load_checkpoint(tmp_path / "last.pt", {"epoch", "parts"})


def test_a_damaged_checkpoint_is_named(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"x": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(
        ColorizeError,
        match=NONE_WHOLE.format(re.escape(str(tmp_path))),
    ):
        load_checkpoint(path)


def test_a_flipped_bit_is_noticed_and_the_checkpoint_before_is_used(tmp_path, capsys):
    path = tmp_path / "last.pt"
    for epoch in (1, 2):
        save_checkpoint(path, {"epoch": epoch, "x": torch.zeros(1000)})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last.pt", "previous.pt"]
    whole = path.read_bytes()
    for at in range(0, len(whole), 97):
        content = bytearray(whole)
        content[at] ^= 4
        path.write_bytes(content)
        state = load_checkpoint(path, {"epoch"})
        assert state["epoch"] == 1
    path.write_bytes(whole[: len(whole) // 2])
    capsys.readouterr()
    assert load_checkpoint(path)["epoch"] == 1
    assert capsys.readouterr().out == f"{path}: damaged; going on from previous.pt\n"
    save_checkpoint(path, {"epoch": 3})  # keeps the good one, not the damaged one
    path.write_bytes(b"")
    assert load_checkpoint(path)["epoch"] == 1
    path.write_bytes(b"")
    (tmp_path / "previous.pt").write_bytes(b"")
    with pytest.raises(
        ColorizeError,
        match=NONE_WHOLE.format(re.escape(str(tmp_path))),
    ):
        load_checkpoint(path)


def test_every_flipped_bit_is_noticed(tmp_path):
    """The damage may be anywhere: in names, flags and sizes of the zip as well as in its parts."""
    path = tmp_path / "last.pt"
    save_checkpoint(path, {"epoch": 1, "x": torch.arange(50.0)})
    save_checkpoint(path, {"epoch": 2, "x": torch.arange(50.0)})
    whole = path.read_bytes()
    for at in range(len(whole)):
        content = bytearray(whole)
        content[at] ^= 1 << at % 8
        path.write_bytes(content)
        state = load_checkpoint(path)
        assert state["epoch"] == 1, at


def test_a_stop_between_the_renames_loses_nothing(tmp_path, capsys):
    run = tmp_path / "run"
    path = checkpoint_path(run)
    assert not has_checkpoint(run)
    save_checkpoint(path, {"epoch": 1})
    path.rename(path.with_name("previous.pt"))
    assert has_checkpoint(run)
    assert load_checkpoint(path)["epoch"] == 1
    assert "missing; going on from previous.pt" in capsys.readouterr().out
    save_checkpoint(path, {"epoch": 2})
    assert load_checkpoint(path)["epoch"] == 2


def test_pickled_code_is_not_run(tmp_path):
    path = tmp_path / "last.pt"
    content = pickle.dumps(Evil(tmp_path / "hacked"))
    path.write_bytes(content + hashlib.sha256(content).digest())  # a checksum is no signature
    with pytest.raises(ColorizeError, match="damaged"):
        load_checkpoint(path)
    assert not (tmp_path / "hacked").exists()
