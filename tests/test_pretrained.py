"""Trained networks: saved, loaded, refused if they are odd, and exported as ONNX."""

import contextlib
import io
import json
import pickle
import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import SMALL_WIDTHS, Evil, scene
from PIL import Image
from safetensors.torch import load_file, save_file

from colorize import cli, pretrained
from colorize.generator import Generator
from colorize.pretrained import load_generator, save_weights
from colorize.system.errors import ColorizeError
from colorize.system.files import write_json

pytestmark = pytest.mark.usefixtures("thin")


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


def test_without_a_name_the_weights_of_the_checkout_are_taken(shipped, small_generator):
    loaded = load_generator()
    for ours, theirs in zip(loaded.parameters(), small_generator.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_notebook_that_is_alone_must_name_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path)
    with pytest.raises(ColorizeError, match="named, and assets/weights/general did not"):
        load_generator()


USING = Path(__file__).parent.parent / "docs" / "using.md"


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """By the command, in a folder that it makes."""
    torch.manual_seed(0)
    generator = Generator(decoder_widths=(32, 16, 16, 8, 8), working_size=48)
    torch.nn.init.normal_(generator.head.weight, std=0.04)
    folder = tmp_path_factory.mktemp("export")
    save_weights(generator, folder / "generator")
    words = ["--weights", str(folder / "generator"), "--out", str(folder / "deep" / "model.onnx")]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert cli.main(["export", *words]) == 0
    assert "any size from 32 pixels up" in said.getvalue()
    return folder, generator.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(1, 32, 32), (3, 64, 64), (1, 97, 61), (2, 100, 256), (1, 333, 200)]
)
def test_onnx_gives_the_numbers_of_torch(exported, shape):
    folder, generator = exported
    network = onnxruntime.InferenceSession(folder / "deep" / "model.onnx")
    L = torch.rand(shape).unsqueeze(1) * 2 - 1
    (ab,) = network.run(None, {"L": L.numpy()})
    with torch.no_grad():
        wanted = generator(L).numpy()
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(ab, wanted, atol=1e-3)


@pytest.mark.slow
def test_the_file_says_how_to_scale(exported):
    network = onnxruntime.InferenceSession(exported[0] / "deep" / "model.onnx")
    metadata = network.get_modelmeta().custom_metadata_map
    assert metadata == {"L_scale": "50.0", "ab_scale": "110.0", "working_size": "48"}


@pytest.mark.slow
def test_the_lines_of_the_docs_colour_a_photo(exported, tmp_path, monkeypatch):
    from colorize import Colorizer

    (code,) = re.findall(r"```python\n([^`]*onnxruntime[^`]*)```", USING.read_text())
    assert "torch" not in code
    monkeypatch.chdir(tmp_path)
    photo = Image.fromarray(scene(0, 300, 200)).convert("L")
    photo.save("old.png")
    (tmp_path / "model.onnx").symlink_to(exported[0] / "deep" / "model.onnx")
    exec(code.replace("old.jpg", "old.png"), {})
    with Image.open("new.png") as written:
        colored = np.asarray(written).astype(int)
    weights = exported[0] / "generator"
    wanted = Colorizer.from_pretrained(weights, device="cpu", smoothness=0)(photo)
    assert np.ptp(colored, axis=-1).mean() > 5
    away = np.abs(colored - np.asarray(wanted))
    assert away.mean() < 2  # it clips what is outside sRGB
    assert np.percentile(away.max(axis=-1), 75) <= 2


@pytest.mark.slow
def test_missing_packages_are_named(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(ColorizeError, match="pip install no_such_package"):
        pretrained.export_onnx(exported[0] / "generator", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_hints_are_a_second_input_that_may_be_left_out(tmp_path):
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=48, hints=True)
    for name, weight in generator.named_parameters():
        if "from_hints" in name:
            torch.nn.init.normal_(weight, std=0.01)
    torch.nn.init.normal_(generator.head.weight, std=0.04)
    save_weights(generator, tmp_path / "generator")
    assert pretrained.export_onnx(tmp_path / "generator", tmp_path / "model.onnx")
    network = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    generator.eval()
    for shape in ((1, 1, 97, 61), (3, 1, 64, 64)):
        L, hints = torch.rand(shape) * 2 - 1, torch.zeros(shape[0], 3, *shape[2:])
        hints[:, :, 20:25, 30:35] = torch.tensor([0.5, -0.3, 1.0]).view(3, 1, 1)
        with torch.no_grad():
            plain, hinted = generator(L).numpy(), generator(L, hints).numpy()
        assert np.abs(plain - hinted).max() > 0.1
        (found,) = network.run(None, {"L": L.numpy()})
        np.testing.assert_allclose(found, plain, atol=1e-3)
        (found,) = network.run(None, {"L": L.numpy(), "hints": hints.numpy()})
        np.testing.assert_allclose(found, hinted, atol=1e-3)
