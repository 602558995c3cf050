"""The benchmarks run as their users run them, and the reference is the recipe it claims to be."""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import scene, write_photos
from PIL import Image
from skimage.color import rgb2lab
from torch.utils.flop_counter import FlopCounterMode

from colorize import cli
from colorize.config import DataConfig, TrainConfig
from colorize.dataset import load_photos
from colorize.generator import Generator
from colorize.trainer import EpochReport

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
NAMES = {"rgb_to_lab", "lab_to_rgb", "prepare_first_epoch", "prepare_later_epochs"}
NAMES |= {"pretrain_step", "gan_step", "epoch"}


@pytest.fixture
def reference(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import reference

    return reference


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import scaling

    return scaling


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def run(script, *arguments):
    result = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_reference_is_the_heavy_unet_and_ours_is_light(reference):
    networks = {"reference": reference.Reference(256).generator, "ours": Generator()}
    flops = {}
    for name, network in networks.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            assert network(torch.zeros(1, 1, 256, 256)).shape == (1, 2, 256, 256)
        flops[name] = counter.get_total_flops() / 1e9
    assert flops["reference"] == pytest.approx(56.9, abs=0.2)
    assert flops["ours"] < 10.7


def test_the_reference_prepares_photos_as_described(reference, tmp_path):
    write_photos(tmp_path, 1)
    L, ab = reference.LabPhotos([tmp_path / "scene-00.png"], 32)[0]
    small = Image.fromarray(scene(0)).resize((32, 32), Image.Resampling.BICUBIC)
    lab = rgb2lab(np.asarray(small))
    for expected in (lab, lab[:, ::-1]):  # mirrored half of the time
        if np.allclose(L[0] * 50 + 50, expected[..., 0], atol=1e-3):
            np.testing.assert_allclose(ab.permute(1, 2, 0) * 110, expected[..., 1:], atol=1e-3)
            return
    raise AssertionError("L is neither the photo's nor its mirror image's")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_reference_learns(reference):
    torch.manual_seed(0)
    recipe = reference.Reference(32)
    recipe.predict(torch.zeros(1, 1, 32, 32))
    # fastai builds its U-Net half in eval mode, where batch norm would learn nothing.
    assert all(module.training for module in recipe.generator.modules())
    L, ab = torch.rand(2, 1, 32, 32) - 0.5, torch.full((2, 2, 32, 32), 0.3)
    losses = [recipe.pretrain_step(L, ab) for _ in range(8)]
    assert losses[-1] < losses[0]
    recipe.start_gan()
    before = [p.clone() for p in recipe.discriminator.parameters()]
    recipe.gan_step(L, ab)
    moved = [
        not torch.equal(a, b)
        for a, b in zip(before, recipe.discriminator.parameters(), strict=True)
    ]
    assert all(moved)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_reference_can_start_from_imagenet_as_ours_can(reference, imagenet_file):
    start = reference.Reference(32, imagenet=True).generator.layers[0].state_dict()
    known = imagenet_file.state_dict()
    assert torch.equal(start["0.weight"], known["conv1.weight"].sum(1, keepdim=True))
    assert torch.equal(start["7.1.conv2.weight"], known["layer4.1.conv2.weight"])
    assert torch.equal(start["7.1.bn2.running_var"], known["layer4.1.bn2.running_var"])


@pytest.mark.slow
def test_bench_writes_its_table(tmp_path):
    file = tmp_path / "results.json"
    output = run("bench.py", "--quick", "--size", 64, "--batch-size", 2, "--out", file)
    results = json.loads(file.read_text())
    rows = {row["name"]: row for row in results["rows"]}
    assert rows.keys() > NAMES
    assert results["machine"]
    assert results["commit"]
    assert {"colorizer_1mp", "colorizer_1mp_peak", "feed_later_epochs"} < rows.keys()
    for which in ("all_threads", "one_thread"):
        assert rows[f"folder_{which}"]["ratio"] > 0
    columns = {"name", "device", "ours", "reference", "unit", "ratio"}
    assert all(row.keys() == columns for row in results["rows"])
    for name in NAMES:
        row = rows[name]
        assert name in output
        better = row["ours"] / row["reference"]
        ratio = better if row["unit"] == "photos/s" else 1 / better
        assert row["ratio"] == pytest.approx(ratio, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    "goal",
    [
        ("--epochs", 1, "--gan-epochs", 1, "--imagenet"),
        ("--pretrain-minutes", 0.03, "--gan-minutes", 0.03),
    ],
)
def test_equal_time_measures_both(tmp_path, goal, imagenet_file):
    write_photos(tmp_path / "train", 10)
    write_photos(tmp_path / "val", 2)
    options = ("--data", tmp_path / "train", "--val", tmp_path / "val", "--out", tmp_path / "run")
    run("equal_time.py", *options, "--size", 32, "--batch-size", 2, "--workers", 0, *goal)
    rows = json.loads((tmp_path / "run" / "equal_time.json").read_text())["rows"]
    expected = [(name, stage) for stage in ("pretrain", "gan") for name in ("ours", "reference")]
    assert [(row["recipe"], row["stage"]) for row in rows] == expected
    assert all(np.isfinite([row["l1"], row["psnr"], row["ciede2000"]]).all() for row in rows)
    assert all(row["photos"] > 0 for row in rows)
    if "--epochs" in goal:
        assert [ours["photos"] for ours in rows[::2]] == [theirs["photos"] for theirs in rows[1::2]]


@pytest.fixture
def equal_time(monkeypatch):
    """The race, by a clock on which only steps of the reference take time: a second each."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import equal_time

    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)

    class Recipe:
        def __init__(self, size, device, imagenet):
            self.done = []

        def start_gan(self):
            self.done.append("start")

        def pretrain_step(self, L, ab):
            clock.now += 1
            self.done.append("pretrain")

        def gan_step(self, L, ab):
            clock.now += 1
            self.done.append("gan")

    monkeypatch.setattr(equal_time, "Reference", Recipe)
    monkeypatch.setattr(equal_time, "time", clock)
    return equal_time


def test_the_reference_trains_for_a_time_or_for_epochs(equal_time, tmp_path):
    rival = equal_time.Rival(write_photos(tmp_path, 5), 32, batch_size=2, workers=0)
    rival.train("pretrain", seconds=3.5)  # ends with the batch that reaches it
    assert (rival.seconds, rival.photos) == (4, 8)
    rival.train("gan", epochs=2)
    assert (rival.seconds, rival.photos) == (8, 16)
    assert rival.recipe.done == ["pretrain"] * 4 + ["start"] + ["gan"] * 4


@pytest.mark.parametrize(("epochs", "theirs"), [(None, 6), (2, 4)])
def test_the_reference_gets_what_each_of_our_epochs_took(equal_time, tmp_path, epochs, theirs):
    write_photos(tmp_path / "train", 5)
    options = {"data": str(tmp_path / "train"), "size": 32, "batch_size": 2, "workers": 0}
    args = argparse.Namespace(**options, seed=0, epochs=epochs, out=tmp_path / "out")
    photos = load_photos(DataConfig(args.data, 32, val_fraction=0.0), progress=False)
    config = TrainConfig(batch_size=2, precision="fp32", encoder_weights="none")
    race = equal_time.Race(args, photos, config)
    race.clock = equal_time.time.now
    for _ in range(2):
        equal_time.time.now += 2.5
        race._take_turns(EpochReport("pretrain", 1, 2, [{}], None, None, None))
    assert (race.seconds, race.photos) == (5.0, 8)
    assert (race.rival.seconds, race.rival.photos) == (theirs, 2 * theirs)


def test_the_reference_trains_as_long_as_a_run_took_and_while_it_goes_on(
    equal_time, tmp_path, monkeypatch
):
    import beside_run

    history = tmp_path / "history.csv"
    history.write_text("stage,seconds\npretrain,2.0\n")
    rival = equal_time.Rival(write_photos(tmp_path, 5), 32, batch_size=2, workers=0)
    step = rival.recipe.pretrain_step

    def last_epoch_ends(L, ab):
        step(L, ab)
        if len(rival.recipe.done) == 3:
            history.write_text(history.read_text() + "pretrain,3.5\n")

    rival.recipe.pretrain_step = last_epoch_ends
    monkeypatch.setattr(beside_run, "SLICE", 2.0)
    told = beside_run.train(rival, tmp_path, "pretrain", epochs=2)
    assert (told["seconds"], told["run_seconds"], told["photos"]) == (6, 6, 12)  # 5.5, rounded


@pytest.mark.slow
def test_the_reference_trains_beside_a_run(tmp_path):
    write_photos(tmp_path / "train", 10)
    write_photos(tmp_path / "val", 2)
    options = ["--data", tmp_path / "train", "--out", tmp_path / "run", "--size", 32]
    options += ["--batch-size", 2, "--pretrain-epochs", 2, "--gan-epochs", 1]
    assert cli.main(["train", *map(str, options), "--encoder-weights", "none"]) == 0
    out = tmp_path / "beside"
    run("beside_run.py", tmp_path / "run", "--val", tmp_path / "val", "--out", out)
    rows = json.loads((out / "beside_run.json").read_text())["rows"]
    expected = [(name, stage) for stage in ("pretrain", "gan") for name in ("ours", "reference")]
    assert [(row["recipe"], row["stage"]) for row in rows] == expected
    for stage, row in (("pretrain", rows[1]), ("gan", rows[3])):
        assert row["photos"] > 0
        with Image.open(out / f"page-{stage}.png") as picture:
            assert picture.width > picture.height / 2
    assert rows[0]["l1"] != rows[2]["l1"]
    assert rows[1]["l1"] != rows[3]["l1"]


@pytest.mark.slow
def test_where_shows_every_part_and_the_cost(tmp_path):
    output = run("where.py", "--size", 64, "--batch-size", 2, "--rounds", 1)
    for part in ("loader", "Lab", "G forward", "G backward", "D, ", "optimizers", "GFLOP/s"):
        assert output.count(part) >= 2, part  # float32 and bf16
    spent, peak = map(float, run("where.py", "--one", 64, 2, "--rounds", 1).split())
    assert spent > 0
    assert 0.2 < peak < 20


@pytest.mark.slow
def test_gan_cost_times_every_option(imagenet_file):
    output = run("gan_cost.py", "--size", 96, "--batch-size", 2, "--rounds", 1)
    rows = [line.split("|")[1:4] for line in output.splitlines() if line.startswith("| `--")]
    assert len(rows) == 14
    assert all(float(seconds) > 0 and float(ratio) > 0 for _, seconds, ratio in rows)


@pytest.mark.slow
def test_ablate_times_every_variant():
    output = run("ablate.py", "--size", 128, "--batch-size", 2, "--rounds", 5)
    times = {line[:28].strip(): line.split()[-1] for line in output.splitlines()[2:]}
    assert times["as it is"] == "1.00x"
    assert {"D looks at the fake twice", "contiguous memory", "fastai's decoder"} < times.keys()


def test_scaling_of_known_numbers(scaling):
    step = scaling.Step("gan", "bf16", 0.5, [40_000_000, 8_000_000], [64, 64], [64, 64, 64])
    ideal = scaling.Link("no limit", float("inf"), latency=0)
    one, eight = (scaling.calculate(step, n, ideal, 4) for n in (1, 8))
    assert one["gradient_MB"] == one["batch_norm_MB"] == one["messages"] == 0
    assert one["photos_per_second"] == one["overlapped"] == 8
    assert eight["gradient_MB"] == pytest.approx(1.75 * 48)
    assert eight["batch_norm_MB"] == pytest.approx((7 * 2 * 129 + 1.75 * 3 * 128) * 4 / 1e6)
    assert eight["messages"] == 5 + 3 + 2  # batch norm, buckets of G, of D
    assert eight["photos_per_second"] == eight["overlapped"] == eight["ideal"] == 64

    # At 0.8 Gbit/s, which are 100 MB/s, the gradients take 0.84 s and the 10 messages 0.1.
    slow = scaling.calculate(step, 8, scaling.Link("slow", 0.8, latency=0.01), 4)
    assert slow["photos_per_second"] == pytest.approx(32 / (0.5 + 0.84 + 0.1), rel=1e-3)
    assert slow["overlapped"] == pytest.approx(32 / (0.84 + 0.1), rel=1e-3)
    assert slow["network_ms"] == pytest.approx(940, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("times", [(), ("--step-seconds", 0.1, 0.2)])
def test_scaling_writes_its_table(tmp_path, times):
    file = tmp_path / "scaling.json"
    options = ("--size", 64, "--batch-size", 2, "--rounds", 1, "--json", file)
    output = run("scaling.py", *options, *times)
    assert "not measured" in output
    rows = json.loads(file.read_text())["rows"]
    assert {row["processes"] for row in rows} == {1, 8, 64}
    # G's 30 batch norms forward and back; D's 3 look at real and fake, and gradients come back
    # through the fake twice. Then 4 buckets of G's gradients, 2 of D's.
    messages = {row["stage"]: row["messages"] for row in rows}
    assert messages == {"pretrain": 60 + 4, "gan": 60 + 6 + 9 + 4 + 2}
    for row in rows:
        assert 0 < row["photos_per_second"] <= row["overlapped"] <= row["ideal"]
        if times:
            assert row["ideal"] == pytest.approx(
                row["processes"] * 2 / (0.1 if row["stage"] == "pretrain" else 0.2)
            )


@pytest.mark.slow
def test_the_peak_is_this_process_own():
    """In what getrusage tells, a process starts with its parent's peak."""
    ballast = np.ones(1_500_000_000, np.uint8)
    code = "from machine import peak_gb; {} print(peak_gb('cpu'))"
    peaks = []
    for more in ("", "x = b'1' * 400_000_000;"):
        command = [sys.executable, "-c", code.format(more)]
        done = subprocess.run(command, cwd=BENCHMARKS, stdout=subprocess.PIPE, check=True)
        peaks.append(float(done.stdout))
    assert len(ballast)
    assert peaks[0] < 1.4
    assert peaks[1] - peaks[0] == pytest.approx(0.4, abs=0.1)


def test_without_a_network_colours_spread_from_hints_up_to_an_edge(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import hints

    L = torch.full((1, 1, 24, 24), -0.5)
    L[..., 12:] = 0.5
    given = torch.zeros(1, 3, 24, 24)
    given[0, :, 5, 5] = torch.tensor([0.4, 0.1, 1.0])
    given[0, :, 5, 18] = torch.tensor([-0.3, 0.2, 1.0])
    ab = hints.alone(L, given)
    assert ab[0, 0, :, :12].min() > 0.3
    assert ab[0, 0, :, 12:].max() < -0.2
    assert not hints.alone(L, given * 0).any()


SLOW = """
import time
try:
    time.sleep(3600)
except KeyboardInterrupt:
    open("slow.json", "w").write('{"tests": 41}')
"""


def test_a_part_that_fails_on_a_gpu_does_not_end_the_rest(gpu, tmp_path, monkeypatch):
    """Nor one that hangs or cannot begin; what was kept is in the file after each."""

    def part(name, code, seconds=600, needs=(), kept=dict):
        return gpu.Part(name, seconds, [sys.executable, "-c", code], kept, needs)

    def half_a_file(name="half.json"):
        return lambda: json.loads((tmp_path / "work" / name).read_text())

    parts = [
        part("fails", "raise SystemExit('out of luck')"),
        part("hangs", "import time; time.sleep(3600)", seconds=0.01),
        # Interrupted in time it writes what it has, as pytest does.
        part("slow", SLOW, seconds=0.5, kept=half_a_file("slow.json")),
        part("lacks", "", needs=("no_such_package",)),
        part("half", "open('half.json', 'w').write('[')", kept=half_a_file()),
        part("works", "print('yes')", kept=lambda: {"found": 42}),
    ]
    monkeypatch.setattr(gpu.Plan, "parts", lambda plan: parts)
    monkeypatch.setattr(gpu, "ENOUGH", 0)
    places = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--quick", *places])
    assert gpu.main() == 1
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]
    status = {name: result["status"] for name, result in found.items()}
    assert status == {
        "fails": "failed",
        "hangs": "out of time",
        "slow": "out of time",
        "lacks": "left out",
        "half": "done",
        "works": "done",
    }
    assert "out of luck" in found["fails"]["error"]
    assert "no_such_package" in found["lacks"]["error"]
    assert "JSONDecodeError" in found["half"]["nothing_kept"]
    assert found["slow"]["tests"] == 41
    assert found["works"]["found"] == 42
