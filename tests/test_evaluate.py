"""The measuring protocol on generators whose measures are known."""

import csv
import json

import pytest
import torch
import torchvision
from conftest import scene, square_scenes, write_photos
from PIL import Image
from torch_fidelity import feature_extractor_inceptionv3 as inception

from colorize import evaluate
from colorize.color import rgb_to_lab, scale_lab
from colorize.dataset import PhotoSet
from colorize.evaluate import Perceptual, at_working_size, measure, measure_batch, measure_each
from colorize.generator import Generator
from colorize.metrics import ciede2000, colorfulness
from colorize.pretrained import save_weights
from colorize.system.errors import ColorizeError


def grey(L):
    return torch.zeros(len(L), 2, *L.shape[-2:])


def cheat(photos):
    """A generator that knows the truth."""
    truth = iter([photos[i][None] for i in range(len(photos))])
    return lambda L: torch.cat([scale_lab(rgb_to_lab(next(truth)))[1] for _ in L])


def test_the_truth_is_perfect():
    photos = square_scenes(3, 32)
    means = measure(cheat(photos), photos, batch_size=2, full=True)
    assert means["l1"] == 0
    assert means["psnr"] > 100
    assert means["ssim"] == pytest.approx(1)
    assert means["ciede2000"] == 0
    assert means["delta_colorfulness"] == 0


def test_grey_has_the_l1_of_the_colors_themselves():
    photos = square_scenes(3, 32)
    means = measure(grey, photos, full=True)
    _, ab = scale_lab(rgb_to_lab(photos.__getitems__([0, 1, 2])))
    assert means["l1"] == pytest.approx(ab.abs().mean().item(), abs=1e-5)
    assert means["colorfulness"] < 0.5
    truth = colorfulness(photos.__getitems__([0, 1, 2])).mean().item()
    assert means["true_colorfulness"] == pytest.approx(truth, abs=1e-3)
    assert means["delta_colorfulness"] == pytest.approx(truth, abs=0.5)
    assert 5 < means["ciede2000"] < 60
    assert 10 < means["psnr"] < 30


def test_means_do_not_depend_on_the_batch_size():
    photos = square_scenes(5, 32)
    assert measure(grey, photos, batch_size=2) == pytest.approx(measure(grey, photos, batch_size=5))


def test_rows_are_per_photo():
    photos = square_scenes(2, 32)
    rows = measure_batch(grey, photos.__getitems__([0, 1]), full=True)
    assert len(rows) == 2
    # The photo against its own grey version, by scikit-image alone.
    from skimage.color import lab2rgb, rgb2lab

    true = scene(1, 32, 32)
    lab = rgb2lab(true)
    lab[..., 1:] = 0
    expected = ciede2000((lab2rgb(lab) * 255).round().astype("uint8"), true)
    assert rows[1]["ciede2000"] == pytest.approx(expected, abs=0.05)


def test_no_photos_no_measures():
    photos = square_scenes(1, 32)
    assert measure(grey, PhotoSet(photos.array, photos.rows[:0], [])) == {}


class Echo(torch.nn.Module):
    """Its ab is L, twice; it keeps what it saw."""

    working_size = 64

    def forward(self, L):
        self.seen = L
        return torch.cat((L, -L), dim=1)


@pytest.mark.parametrize("side", [40, 64, 150])
def test_squares_of_any_size_are_seen_at_the_working_size(side):
    network, ramp = Echo(), torch.linspace(-0.9, 0.9, side)
    L = torch.stack((ramp.expand(side, side), ramp.expand(side, side).T))[:, None]
    ab = at_working_size(network)(L)
    assert network.seen.shape == (2, 1, 64, 64)
    assert ab.shape == (2, 2, side, side)
    assert torch.allclose(ab, torch.cat((L, -L), dim=1), atol=0.03)


def test_the_network_never_sees_more_than_white():
    at_working_size(network := Echo())(torch.randint(0, 2, (2, 1, 40, 40)) * 2.0 - 1)
    assert network.seen.abs().max() == 1  # bicubic overshoots such steps


@pytest.fixture
def weights(tmp_path, small_generator):
    torch.nn.init.normal_(small_generator.head.weight, std=0.1)
    save_weights(small_generator, tmp_path / "weights")
    return str(tmp_path / "weights")


def test_colours_are_measured_as_predict_strengthens_and_smooths_them(weights, tmp_path):
    write_photos(tmp_path / "in", 3)
    plain, half, smoother = (
        evaluate.evaluate_folder(str(tmp_path / "in"), weights, 32, **knobs)["colorfulness"]
        for knobs in ({}, {"strength": 0.5}, {"smoothness": 300.0})
    )
    assert half < 0.8 * plain
    assert 0 < smoother < 0.98 * plain


def test_files_agree_with_each_other(weights, tmp_path):
    write_photos(tmp_path / "in", 5)
    files = {
        "summary": tmp_path / "deep" / "summary.json",
        "each": tmp_path / "each.csv",
        "picture": tmp_path / "grid.png",
        "best_worst": tmp_path / "best.png",
    }
    measures = evaluate.evaluate_folder(str(tmp_path / "in"), weights, 32, **files)
    summary = json.loads(files["summary"].read_text())
    assert summary["photos"] == 5
    assert {name: summary[name] for name in measures} == measures
    with open(files["each"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows] == [f"scene-{i:02d}.png" for i in range(5)]
    for name in ("l1", "psnr", "ssim", "ciede2000", "colorfulness", "true_colorfulness"):
        mean = sum(float(row[name]) for row in rows) / 5
        assert mean == pytest.approx(measures[name], abs=1e-4)
    for name in ("picture", "best_worst"):
        with Image.open(files[name]) as picture:
            assert picture.width > 500


def test_photos_of_another_size_are_seen_at_the_working_size(weights, tmp_path, monkeypatch):
    write_photos(tmp_path / "in", 3)
    sizes = []
    forward = Generator.forward
    monkeypatch.setattr(
        Generator, "forward", lambda g, L: sizes.append(L.shape[-1]) or forward(g, L)
    )
    evaluate.evaluate_folder(str(tmp_path / "in"), weights, 48, picture=tmp_path / "grid.png")
    assert set(sizes) == {32}
    assert len(sizes) == 2  # measured, and drawn
    evaluate.evaluate_folder(
        str(tmp_path / "in"), weights, 48, tmp_path / "summary.json", working_size=64
    )
    assert sizes[2:] == [64]
    assert json.loads((tmp_path / "summary.json").read_text())["working_size"] == 64


def test_fid_and_lpips_are_written_too(weights, tmp_path, monkeypatch):
    class Measured:
        def __init__(self, device):
            pass

        def __call__(self, colored, true):
            return {"lpips": [0.25] * len(true)}

        def fid(self):
            return {"fid": 12.5, "fid_hue_invariant": 11.5}

    write_photos(tmp_path / "in", 3)
    monkeypatch.setattr(evaluate, "Perceptual", Measured)
    file = tmp_path / "each.csv"
    measures = evaluate.evaluate_folder(
        str(tmp_path / "in"), weights, 32, each=file, perceptual=True
    )
    assert (measures["lpips"], measures["fid"]) == (0.25, 12.5)
    assert measures["fid_hue_invariant"] == 11.5
    assert file.read_text().count(",0.25") == 3


def test_the_best_are_on_the_left_and_the_worst_on_the_right(monkeypatch, colorizer):
    seen = {}
    monkeypatch.setattr(
        evaluate, "grid_of", lambda _, rgb, lines: seen.update(rgb=rgb, lines=lines)
    )
    photos = square_scenes(7, 32)
    values = (5.0, 1.0, 9.0, 3.0, 7.0, 2.0, 8.0)
    rows = [{"ciede2000": value, "true_colorfulness": 20.0} for value in values]
    evaluate.best_and_worst(rows, photos, colorizer, most=2)
    assert seen["lines"] == [
        "best: scene-1, 1.0",
        "worst: scene-2, 9.0",
        "best: scene-5, 2.0",
        "worst: scene-6, 8.0",
    ]
    assert torch.equal(seen["rgb"], photos.__getitems__([1, 2, 5, 6]))
    evaluate.best_and_worst(rows, photos, colorizer)
    assert len(seen["lines"]) == 6  # no photo is both
    rows[1]["true_colorfulness"] = 3.0  # a grey photo
    evaluate.best_and_worst(rows, photos, colorizer, most=1)
    assert seen["lines"] == ["best: scene-5, 2.0", "worst: scene-2, 9.0"]


def test_a_single_photo_is_drawn(colorizer):
    row = {"ciede2000": 1.0, "true_colorfulness": 0.0}
    figure = evaluate.best_and_worst([row], square_scenes(1, 32), colorizer)
    titles = [block.get_suptitle() for block in figure.subfigs]
    assert titles == ["best: scene-0, 1.0", "worst: scene-0, 1.0"]


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


@pytest.mark.slow
def test_the_truth_is_at_no_distance_and_grey_is(measures, networks):
    photos = square_scenes(3, 64)
    rgb = photos.__getitems__([0, 1, 2])
    same = measures(rgb, rgb)["lpips"]
    assert same == pytest.approx([0, 0, 0], abs=1e-6)
    assert measures.fid() == pytest.approx({"fid": 0, "fid_hue_invariant": 0}, abs=0.1)

    grey = Perceptual()
    rows = measure_each(lambda L: torch.zeros(len(L), 2, 64, 64), photos, batch_size=2, more=grey)
    assert all(row["lpips"] > 1e-4 for row in rows)
    assert len({row["lpips"] for row in rows}) == 3  # of each photo, not of the batch
    assert grey.fid()["fid"] > 1
    assert grey.fid()["fid_hue_invariant"] == grey.fid()["fid"]  # grey has no colours to scale

    weaker = Perceptual()
    Y = (rgb * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True)
    weaker((Y + (rgb - Y) / 2).round().to(torch.uint8), rgb)
    assert weaker.fid()["fid_hue_invariant"] < weaker.fid()["fid"] / 2


@pytest.mark.slow
def test_one_photo_has_no_fid(measures):
    rgb = square_scenes(1, 64).__getitems__([0])
    measures(rgb, rgb)
    assert measures.fid() == {}


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
