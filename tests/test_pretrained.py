"""ONNX: the same numbers as PyTorch at any size, and the README's lines that use it."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import scene
from PIL import Image

from colorize import pretrained
from colorize.pretrained import save_weights
from colorize.system.errors import ColorizeError

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from colorize.generator import Generator

    torch.manual_seed(0)
    generator = Generator(decoder_widths=(32, 16, 16, 8, 8), working_size=48)
    torch.nn.init.normal_(generator.head.weight, std=0.05)
    folder = tmp_path_factory.mktemp("export")
    save_weights(generator, folder / "generator")
    pretrained.export_onnx(folder / "generator", folder / "model.onnx")
    return folder, generator.eval()


@pytest.mark.parametrize(
    "shape", [(1, 32, 32), (3, 64, 64), (1, 97, 61), (2, 100, 256), (1, 333, 200)]
)
def test_onnx_gives_the_numbers_of_torch(weights, shape):
    folder, generator = weights
    network = onnxruntime.InferenceSession(folder / "model.onnx")
    L = torch.rand(shape).unsqueeze(1) * 2 - 1
    (ab,) = network.run(None, {"L": L.numpy()})
    with torch.no_grad():
        wanted = generator(L).numpy()
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(ab, wanted, atol=1e-3)


def test_the_file_says_how_to_scale(weights):
    network = onnxruntime.InferenceSession(weights[0] / "model.onnx")
    metadata = network.get_modelmeta().custom_metadata_map
    assert metadata == {"L_scale": "50.0", "ab_scale": "110.0", "working_size": "48"}


def test_the_lines_of_the_readme_colour_a_photo(weights, tmp_path, monkeypatch):
    from colorize import Colorizer

    (code,) = re.findall(r"```python\n([^`]*onnxruntime[^`]*)```", README.read_text())
    assert "torch" not in code
    monkeypatch.chdir(tmp_path)
    photo = Image.fromarray(scene(0, 300, 200)).convert("L")
    photo.save("old.png")
    (tmp_path / "model.onnx").symlink_to(weights[0] / "model.onnx")
    exec(code.replace("old.jpg", "old.png"), {})
    with Image.open("new.png") as written:
        colored = np.asarray(written).astype(int)
    wanted = Colorizer.from_pretrained(weights[0] / "generator", device="cpu")(photo)
    assert np.ptp(colored, axis=-1).mean() > 5
    assert np.abs(colored - np.asarray(wanted)).mean() < 2  # it clips what is outside sRGB


def test_missing_packages_are_named(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "_NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(ColorizeError, match="pip install no_such_package"):
        pretrained.export_onnx(weights[0] / "generator", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
