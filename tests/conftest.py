"""What several test files need: photos made on the spot, and small networks."""

from __future__ import annotations

import copy
import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported anywhere: the same sums in the same order on every machine size, and
# tests that run beside each other do not fight for cores. Subprocesses inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet

from colorize import pretrained
from colorize.dataset import Photos, PhotoSet
from colorize.generator import Generator
from colorize.predict import Colorizer

SMALL_WIDTHS = (32, 16, 16, 8, 8)
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

# Seconds after which something hangs: far more than it takes on the busiest machine. No test asks
# how long anything took; benchmarks do.
PATIENCE = 600

# The same made-up examples in every run, and none refused for a machine that is slow.
settings.register_profile(
    "reproducible",
    derandomize=True,
    database=None,
    deadline=None,
    # Properties only read the networks that fixtures give them.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("reproducible")

# What a file may be called: characters of any script, and bytes that are no characters.
FILE_NAMES = st.text() | st.binary().map(lambda name: name.decode("utf-8", "surrogateescape"))


def pytest_collection_finish() -> None:
    """What was made by imports is no garbage; every trainer would look through it all."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or fills the user's caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    torch.manual_seed(0)


def scene(seed: int, width: int = 80, height: int = 64) -> np.ndarray:
    """A made-up landscape (height, width, 3) uint8: sky over ground, a disc, some grain."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.empty((height, width, 3))
    horizon = random.uniform(0.3, 0.7) * height
    shade = (0.6 + 0.4 * y / height)[..., None]
    pixels[:] = np.where((y < horizon)[..., None], (90, 140, 220), (60, 130, 50)) * shade
    centre, radius = random.uniform(0.2, 0.8, 2) * (width, height), height / 6
    pixels[np.hypot(x - centre[0], y - centre[1]) < radius] = random.uniform(60, 255, 3)
    return (pixels + random.normal(0, 4, pixels.shape)).clip(0, 255).astype(np.uint8)


def write_photos(folder: Path, count: int, suffix: str = ".png") -> list[Path]:
    """Write scenes 0, 1, ... into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"scene-{i:02d}{suffix}" for i in range(count)]
    for i, path in enumerate(paths):
        Image.fromarray(scene(i)).save(path)
    return paths


def square_scenes(count: int, size: int, first: int = 0) -> PhotoSet:
    """Scenes as a `PhotoSet`, without files."""
    array = np.stack([scene(first + i, size, size) for i in range(count)])
    return PhotoSet(array, np.arange(count), [f"scene-{first + i}" for i in range(count)])


class Evil:
    """What makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def photos() -> Photos:
    """Six photos of 36x36 to train on at 32x32, two held out."""
    return Photos(square_scenes(6, 36), square_scenes(2, 32, first=6), size=32)


class ThinResNet(ResNet):
    """One block a layer and an eighth of the channels behind the stem, two in deeper ones."""

    def __init__(self, name: str, zero_init_residual: bool = False, **_: object) -> None:
        blocks = [1 if name == "resnet18" else 2, 1, 1, 1]
        super().__init__(BasicBlock, blocks, zero_init_residual=zero_init_residual)
        self.fc = nn.Linear(self.inplanes, 1)  # by this the encoder knows its widths

    def _make_layer(self, block, planes, *rest, **options):
        return super()._make_layer(block, planes // 8, *rest, **options)


@pytest.fixture(scope="module")
def thin() -> Iterator[None]:
    """Every ResNet is thin: training, saving and resuming work the same, at a tenth of the cost.

    For a whole file, as weights of one are not those of the other; subprocesses know nothing of it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchvision.models.get_model", ThinResNet)
        yield


@pytest.fixture
def imagenet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A ResNet-18 with made-up weights, where torchvision keeps the downloaded ones."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    resnet = torchvision.models.get_model("resnet18", weights=None)
    for module in resnet.modules():  # fresh running statistics would hide a missing copy
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    url = torchvision.models.ResNet18_Weights.DEFAULT.url
    torch.save(resnet.state_dict(), folder / Path(url).name)
    return resnet.eval()


@pytest.fixture(scope="module")
def _drawn() -> Generator:
    """Drawing eleven million weights takes longer than most tests, so each file does it once."""
    torch.manual_seed(0)
    return Generator(decoder_widths=SMALL_WIDTHS, working_size=32)


@pytest.fixture
def small_generator(_drawn: Generator) -> Generator:
    """The real encoder (unless `thin`) under a narrow decoder."""
    return copy.deepcopy(_drawn)


@pytest.fixture
def hinted() -> Generator:
    """A generator whose colours follow its hints loudly: what sits at a hint takes its ab."""
    torch.manual_seed(1)
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32, hints=True)
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            if "from_hints" in name:
                weight.normal_(0, 0.05)
        generator.head.weight.normal_(0, 0.5)
    return generator


@pytest.fixture
def shipped(small_generator, tmp_path, monkeypatch) -> Path:
    """Weights that stand for those of the checkout."""
    monkeypatch.setattr(pretrained, "ASSETS", tmp_path / "assets")
    folder = tmp_path / "assets" / "weights" / pretrained.SHIPPED
    small_generator.card = "# Landscapes"
    pretrained.save_weights(small_generator, folder)
    return folder


@pytest.fixture
def colorizer(small_generator):
    """A generator with loud colours, so that a wrong channel or a lost colour shows."""
    with torch.no_grad():
        small_generator.head.weight.normal_(0, 0.5)
        small_generator.head.bias.copy_(torch.tensor([0.2, -0.3]))
    return Colorizer(small_generator, device="cpu")
