"""FID and LPIPS through torchmetrics' own code, with networks that were not trained."""

import pytest
import torch
import torchvision
from conftest import square_scenes
from torch_fidelity import feature_extractor_inceptionv3 as inception

from colorize import evaluate
from colorize.evaluate import Perceptual, measure_each
from colorize.system.errors import ColorizeError


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A folder for TORCH_HOME with the files that would be downloaded, of random weights."""
    home = tmp_path_factory.mktemp("torch")
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    alexnet = torchvision.models.alexnet(weights=None)
    url = torchvision.models.AlexNet_Weights.DEFAULT.url
    torch.save(alexnet.state_dict(), folder / url.rsplit("/", 1)[1])

    class Untrained(inception.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            pass

    torch.save({}, home / "nothing.pth")
    network = Untrained("inception-v3-compat", ["2048"], str(home / "nothing.pth"))
    for layer in network.modules():  # so that something is left after so many layers
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    torch.save(network.state_dict(), folder / inception.URL_INCEPTION_V3.rsplit("/", 1)[1])
    return home


@pytest.fixture
def measures(networks, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(networks))
    return Perceptual()


def test_the_truth_is_at_no_distance_and_grey_is(measures, networks):
    photos = square_scenes(3, 64)
    rgb = photos.__getitems__([0, 1, 2])
    same = measures(rgb, rgb)["lpips"]
    assert same == pytest.approx([0, 0, 0], abs=1e-6)
    assert measures.fid() == pytest.approx(0, abs=0.1)

    grey = Perceptual()
    rows = measure_each(lambda L: torch.zeros(len(L), 2, 64, 64), photos, batch_size=2, more=grey)
    assert all(row["lpips"] > 1e-4 for row in rows)
    assert len({row["lpips"] for row in rows}) == 3  # of each photo, not of the batch
    assert grey.fid() > 1


def test_one_photo_has_no_fid(measures):
    rgb = square_scenes(1, 64).__getitems__([0])
    measures(rgb, rgb)
    assert measures.fid() is None


def test_without_the_networks_it_is_one_line(tmp_path, monkeypatch):
    def away(*_, **__):
        raise OSError("network is unreachable")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", away)
    with pytest.raises(ColorizeError, match=r"cannot be had .*unreachable.*checkpoints") as error:
        Perceptual()
    assert "\n" not in str(error.value)


def test_without_the_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(evaluate.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ColorizeError, match=r"pip install torchmetrics torch-fidelity$"):
        Perceptual()
