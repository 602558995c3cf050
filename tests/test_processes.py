"""Several processes: the same weights as one, one writer, and no survivors when one dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import PATIENCE, write_photos
from torch import distributed

from colorize import cli, run
from colorize.discriminator import PatchGAN
from colorize.generator import Generator
from colorize.training.checkpoint import load_checkpoint

OPTIONS = (
    "--size 32 --encoder-weights none --pretrain-epochs 1 --gan-epochs 1 --precision fp32 "
    "--pretrain-lr 1e-4 --gan-lr 1e-5 --val-fraction 0.3"
)
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
LAUNCH += ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]


def start(launcher, folder, out, batch_size, *more):
    """A run that writes what it says to a file."""
    job = ["-m", "colorize", "train", "--data", folder / "photos", "--out", folder / out]
    options = ["--batch-size", batch_size, "--cache", folder / "cache", *OPTIONS.split(), *more]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    with open(folder / f"{out}.txt", "w") as said:
        return subprocess.Popen(
            [str(word) for word in [*launcher, *job, *options]],
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
        )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same run by two processes with 2 photos a step each, and by one with 4."""
    folder = tmp_path_factory.mktemp("runs")
    write_photos(folder / "photos", 23)
    train_twice(folder)
    return folder


def train_twice(folder, suffix="", *more):
    for launcher, out, batch_size in ((LAUNCH, "two", 2), ([sys.executable], "one", 4)):
        process = start(launcher, folder, out + suffix, batch_size, *more)
        assert process.wait(PATIENCE) == 0, (folder / f"{out}{suffix}.txt").read_text()


def untrained(norm):
    """The networks as `run_training` starts them."""
    torch.manual_seed(0)
    generator = Generator()
    torch.manual_seed(1)
    return {"generator": generator, "discriminator": PatchGAN(norm=norm)}


@pytest.mark.slow
def test_two_processes_end_with_the_weights_of_one(runs):
    """As nearly as sums in another order allow.

    Adam steps by the sign of a gradient where that is small, so single weights differ by as much
    as a step; all together they differ by a small part of the way they went. (With batch norm over
    each process alone, generators end farther from each other than from their start.)
    """
    same_weights(runs, "one", "two", "batch")


@pytest.mark.slow
def test_so_they_do_with_spectral_norm(runs):
    """Its estimate of the largest singular value goes on in each process alone."""
    train_twice(runs, "-spectral", "--discriminator-norm", "spectral", "--pretrain-epochs", "0")
    same_weights(runs, "one-spectral", "two-spectral", "spectral")


OTHER_GANS = """
import torch, torchvision
from torch import distributed
from conftest import SMALL_WIDTHS, ThinResNet, square_scenes
torchvision.models.get_model = ThinResNet
from colorize.config import TrainConfig
from colorize.dataset import Photos
from colorize.discriminator import MultiscaleGAN, PatchGAN, ProjectedGAN
from colorize.generator import Generator
from colorize.trainer import Trainer

wgan = {"objective": "wgan-gp", "discriminator_norm": "layer"}
gans = [
    (PatchGAN(width=8, norm="layer"), {**wgan, "lambda_features": 1, "discriminator_first": 0.5}),
    (ProjectedGAN(width=8), {"freeze_encoder": True}),
    (MultiscaleGAN(width=8, layers=1), {"discriminator": "multiscale", "discriminator_layers": 1}),
]
photos = Photos(square_scenes(8, 36), square_scenes(2, 32, first=8), size=32)
for discriminator, changes in gans:
    config = TrainConfig(batch_size=2, gan_epochs=2, precision="fp32", **changes)
    networks = (Generator(decoder_widths=SMALL_WIDTHS, working_size=32), discriminator)
    rows = Trainer(config, photos, *networks, progress=False).train_gan()
    assert distributed.get_world_size() == 2
    assert not any("skipped_steps" in row for row in rows)
    for network in networks:
        for name, weights in network.named_parameters():
            first = weights.detach().clone()
            distributed.broadcast(first, 0)
            assert torch.equal(weights, first), name
distributed.destroy_process_group()
print("the same", flush=True)
"""


@pytest.mark.slow
def test_processes_keep_the_same_weights_whatever_the_gan(thin, imagenet_file, tmp_path):
    """Each draws its own points for a gradient penalty, and all sorts of networks are frozen."""
    (tmp_path / "job.py").write_text(OTHER_GANS)
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [*LAUNCH, str(tmp_path / "job.py")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout.count("the same") == 2, done.stderr


def same_weights(runs, first, second, norm):
    one, two = (load_checkpoint(runs / out / "checkpoints" / "last.pt") for out in (first, second))
    for ours, theirs in zip(one["history"], two["history"], strict=True):
        names = ours.keys() - {"stage", "seconds", "photos_per_second"}
        assert {name: ours[name] for name in names} == pytest.approx(
            {name: theirs[name] for name in names}, rel=2e-3
        )
    for name, network in untrained(norm).items():
        ours, theirs = one["parts"][name], two["parts"][name]
        moved = apart = 0.0
        for key, start in network.named_parameters():
            moved += (ours[key] - start.detach()).square().sum().item()
            apart += (ours[key] - theirs[key]).square().sum().item()
        assert 0 < apart**0.5 < 0.1 * moved**0.5, name
        statistics = [key for key in ours if "running" in key]
        for key in statistics:
            torch.testing.assert_close(ours[key], theirs[key], rtol=0.01, atol=0.01)


@pytest.mark.slow
def test_only_the_main_process_speaks_and_writes(runs):
    said = (runs / "two.txt").read_text()
    assert said.count("photos to train on") == 1
    assert said.count("training on cpu") == 1
    files = [
        {path.relative_to(runs / out).as_posix() for path in (runs / out).rglob("*")}
        for out in ("one", "two")
    ]
    assert files[0] == files[1]
    assert not any(".unfinished" in name for name in files[0])
    assert not list((runs / "cache").glob(".*"))


def children(process):
    """The processes that a launcher has started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(number) for number in path.read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_process_that_dies_ends_the_others(runs):
    process = start(LAUNCH, runs, "dies", 2, "--pretrain-epochs", "1000")
    try:
        checkpoint = runs / "dies" / "checkpoints" / "last.pt"
        deadline = time.monotonic() + PATIENCE
        while not checkpoint.exists():
            assert process.poll() is None, (runs / "dies.txt").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        workers = children(process)
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        assert process.wait(PATIENCE) != 0
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    finally:
        process.kill()
    assert load_checkpoint(checkpoint)["stage"] == "pretrain"


def test_a_run_takes_leave_of_the_other_processes(tmp_path, monkeypatch):
    """A process that exits without may abort, and its launcher calls the whole run failed."""

    def join(config, out):
        distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1
        )

    monkeypatch.setattr(run, "run_training", join)
    assert cli.main(["train", "--data", "builtin", "--out", str(tmp_path / "run")]) == 0
    assert not distributed.is_initialized()
