"""Files are written whole or not at all, and bad ones are refused with a reason."""

import hashlib
import json
import pickle
import re

import pytest
import torch
from conftest import SMALL_WIDTHS
from safetensors.torch import load_file, save_file

from colorize import pretrained
from colorize.generator import Generator
from colorize.pretrained import load_generator, save_weights
from colorize.system.errors import ColorizeError
from colorize.system.files import write_json
from colorize.training.checkpoint import (
    checkpoint_path,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)

NONE_WHOLE = "^{}: no checkpoint that is not damaged; delete this folder and start again$"


@pytest.fixture
def weights(small_generator, tmp_path):
    save_weights(small_generator, tmp_path / "weights")
    return tmp_path / "weights"


def test_failed_weights_leave_the_old_ones(small_generator, weights, monkeypatch):
    before = (weights / "model.safetensors").read_bytes()

    def full(folder):
        (folder / "model.safetensors").write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(small_generator, "save_pretrained", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(small_generator, weights)
    assert (weights / "model.safetensors").read_bytes() == before
    assert [p.name for p in weights.parent.iterdir()] == ["weights"]


def test_weights_come_back(small_generator, weights):
    assert {"config.json", "model.safetensors"} <= {p.name for p in weights.iterdir()}
    assert json.loads((weights / "config.json").read_text()) == {
        "encoder": "resnet18",
        "decoder_widths": list(SMALL_WIDTHS),
        "working_size": 32,
    }
    assert (weights / "model.safetensors").stat().st_mode == (
        weights / "config.json"
    ).stat().st_mode
    loaded = load_generator(weights)
    assert loaded.working_size == 32
    assert not loaded.training
    L = torch.rand(1, 1, 48, 40)
    assert torch.equal(loaded(L), small_generator.eval()(L))


def test_a_working_size_set_later_is_kept(small_generator, tmp_path):
    for size in (128, 64):
        small_generator.working_size = size
        save_weights(small_generator, tmp_path / "weights")
        small_generator = load_generator(tmp_path / "weights")
        assert small_generator.working_size == size


def test_from_pretrained_is_as_strict(weights):
    assert isinstance(Generator.from_pretrained(str(weights)), Generator)
    state = load_file(weights / "model.safetensors")
    del state["head.bias"]
    state["head.extra"] = torch.zeros(1)
    save_file(state, weights / "model.safetensors")
    for load in (load_generator, Generator.from_pretrained):
        with pytest.raises(ColorizeError, match=r"2 keys differ, first head\.bias, head\.extra"):
            load(weights)


def test_weights_of_another_network_are_refused(weights):
    config = json.loads((weights / "config.json").read_text())
    write_json(weights / "config.json", config | {"encoder": "resnet34"})
    with pytest.raises(ColorizeError, match=r"do not fit.*encoder\.layers"):
        load_generator(weights)


@pytest.mark.parametrize("damage", ["cut", "config", "no file", "no config", "empty folder"])
def test_damaged_weights_give_one_line(weights, damage):
    model, config = weights / "model.safetensors", weights / "config.json"
    if damage == "cut":
        model.write_bytes(model.read_bytes()[:1000])
    elif damage == "config":
        config.write_text("{")
    if damage in ("no file", "empty folder"):
        model.unlink()
    if damage in ("no config", "empty folder"):
        config.unlink()
    with pytest.raises(ColorizeError) as error:
        load_generator(weights)
    assert str(weights) in str(error.value)
    assert "\n" not in str(error.value)


class Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".PKL"])
def test_a_pickle_is_refused_with_the_reason(weights, suffix):
    hacked = weights / "hacked"
    (weights / "model.safetensors").unlink()
    file = weights / f"model{suffix}"
    file.write_bytes(pickle.dumps(Evil(hacked)))
    for place in (weights, file):
        with pytest.raises(ColorizeError, match="pickle, which can run code") as error:
            load_generator(place)
        assert str(place) in str(error.value)
        assert "model.safetensors" in str(error.value)
        assert "\n" not in str(error.value)
    file.rename(weights / "model.safetensors")  # its name does not make it another file
    with pytest.raises(ColorizeError, match=r"model\.safetensors is damaged"):
        load_generator(weights)
    assert not hacked.exists()


def test_a_weights_file_is_told_to_give_its_folder(weights):
    with pytest.raises(ColorizeError, match="is a file; give its folder"):
        load_generator(weights / "model.safetensors")


@pytest.fixture
def hub(weights, monkeypatch):
    """The weights folder as the hub's `somebody/weights`."""
    monkeypatch.setattr(
        "huggingface_hub.hub_mixin.hf_hub_download", lambda **asked: weights / asked["filename"]
    )
    monkeypatch.setattr("colorize.generator.hf_hub_download", lambda _, name, **__: weights / name)
    return weights


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ('{"depth": 7, "working_size": 32}', "unknown fields: 'depth'"),
        ('{"working_size": true}', "working_size True"),
        ('{"working_size": 1e9}', "working_size 1000000000.0"),
        ('{"decoder_widths": [9, 9, 9, 9, 1000000000]}', "decoder_widths"),
        ('{"encoder": ["resnet18"]}', "encoder"),
        ("[1]", "config.json is damaged"),
        ("null", "config.json is damaged"),
        ("[" * 10**5, "config.json is damaged"),
        ("\x00", "config.json is damaged"),
    ],
)
def test_strange_configs_are_refused_here_and_from_the_hub(hub, config, reason):
    (hub / "config.json").write_text(config)
    for place in (hub, "somebody/weights"):
        with pytest.raises(ColorizeError) as error:
            load_generator(place)
        assert str(error.value).startswith(f"{place}: ")
        assert reason in str(error.value)
        assert "\n" not in str(error.value)


def test_weights_that_are_nowhere_give_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ColorizeError, match="no such weights folder") as error:
        load_generator(str(tmp_path / "nowhere"))
    assert "\n" not in str(error.value)


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


def test_without_a_name_the_weights_of_the_checkout_are_taken(shipped, small_generator):
    loaded = load_generator()
    for ours, theirs in zip(loaded.parameters(), small_generator.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_notebook_that_is_alone_must_name_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    with pytest.raises(ColorizeError, match="named, and assets/weights/landscapes did not"):
        load_generator()
