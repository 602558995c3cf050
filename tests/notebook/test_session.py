"""Runs in notebooks: settings, cells that go on, several processes."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import PartialState
from conftest import PATIENCE, SMALL_WIDTHS

from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.discriminator import PatchGAN
from colorize.generator import Generator
from colorize.notebook import session
from colorize.notebook.views import stage_weights
from colorize.pretrained import load_generator
from colorize.run import evaluate_run, make_networks
from colorize.system.errors import ColorizeError
from colorize.training.checkpoint import has_checkpoint

pytestmark = pytest.mark.usefixtures("thin")

CONFIG = RunConfig(
    DataConfig("builtin", 32),
    TrainConfig(batch_size=2, pretrain_epochs=1, gan_epochs=1, precision="fp32"),
)


def made(source, out, **train):
    return session.make_config(DataConfig(source, 64), TrainConfig(**train), out)


def test_built_in_photos_get_many_crops_and_need_no_network(tmp_path):
    config = made("builtin", tmp_path, batch_size=0, pretrain_epochs=2, encoder_weights="auto")
    assert config.train.repeats > 10
    assert (config.data.size, config.train.pretrain_epochs) == (64, 2)
    assert (config.train.batch_size, config.train.encoder_weights) == (8, "none")


def test_a_batch_size_is_kept_or_found(tmp_path, photos, monkeypatch):
    assert made("coco", tmp_path, batch_size=3).train.batch_size == 3
    assert made("builtin", tmp_path, batch_size=3).train.batch_size == 3
    assert made("coco", tmp_path, batch_size=0).train.batch_size >= 4
    assert made("coco", tmp_path) == RunConfig(DataConfig("coco", 64), TrainConfig())
    fit(CONFIG, photos, tmp_path, ["pretrain"])  # on another machine, perhaps
    assert made("coco", tmp_path, batch_size=0).train.batch_size == 2


@pytest.mark.parametrize(("gpu", "source"), [(True, "coco"), (False, "builtin")])
def test_the_machine_decides_what_is_trained_on(gpu, source, tmp_path, monkeypatch):
    monkeypatch.setattr(session, "has_gpu", lambda: gpu)
    assert made("auto", tmp_path).data.source == source


def fit(config, photos, out, stages=("pretrain", "gan"), view=lambda: None):
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32)
    print(session.open_run(config, out))
    for stage in stages:
        history = session.train_stage(stage, config.train, photos, generator, PatchGAN(), out, view)
    return generator, history


def test_cells_run_again_go_on_where_they_stopped(photos, tmp_path, capsys):
    seen = []
    out = tmp_path / "run"

    def view():
        seen.append(max(path.name for path in (out / "samples").iterdir()))

    fit(CONFIG, photos, out, ["pretrain"], view)
    assert seen == ["pretrain-001.png"]
    generator, history = fit(CONFIG, photos, out, view=view)
    assert len(seen) == 2
    assert [row["stage"] for row in history] == ["pretrain", "gan"]
    again, _ = fit(CONFIG, photos, out, view=view)
    assert len(seen) == 2
    for one, other in zip(generator.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    printed = capsys.readouterr().out
    assert printed.count("a new run") == 1
    assert printed.count("going on") == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 64}, "another size"),
        ({"source": "coco", "val_fraction": 0.3}, r"another DATA \(builtin\);"),
    ],
)
def test_a_run_with_other_settings_is_left_alone(photos, tmp_path, change, message):
    out = tmp_path / "run"
    fit(CONFIG, photos, out, ["pretrain"])
    other = replace(CONFIG, data=replace(CONFIG.data, **change))
    with pytest.raises(ColorizeError, match=message):
        session.open_run(other, out)


def test_runs_that_cannot_be_are_refused(tmp_path):
    inside = replace(CONFIG, data=replace(CONFIG.data, source=str(tmp_path)))
    with pytest.raises(ColorizeError, match="lies inside"):
        session.open_run(inside, tmp_path / "run")
    nothing = replace(CONFIG, train=replace(CONFIG.train, pretrain_epochs=0, gan_epochs=0))
    with pytest.raises(ColorizeError, match="nothing to train"):
        session.open_run(nothing, tmp_path / "run")
    assert not (tmp_path / "run").exists()


TWO_PROCESSES = """
import os
import subprocess
import sys
from pathlib import Path

import torch
import torchvision
from conftest import SMALL_WIDTHS, ThinResNet, square_scenes

from colorize.pretrained import load_generator
from colorize.config import TrainConfig
from colorize.dataset import Photos
from colorize.discriminator import PatchGAN
from colorize.system.errors import ColorizeError
from colorize.generator import Generator
from colorize.notebook.session import train_stage

torchvision.models.get_model = ThinResNet
torch.cuda.device_count = lambda: 2
photos = Photos(square_scenes(8, 36), square_scenes(2, 32, first=8), size=32)
config = TrainConfig(batch_size=2, pretrain_epochs=1, gan_epochs=1, precision="fp32")
generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32)
out = Path(sys.argv[1])
job = (config, photos, generator, PatchGAN(), out)
for stage in ("pretrain", "gan"):
    history = train_stage(stage, *job, lambda: print("view"), gpus=2)
print(*(row["stage"] for row in history))
assert train_stage("pretrain", config, *job[1:], gpus=2) == history
kept = load_generator(out / "generator").state_dict()
print(all(torch.equal(kept[name], value) for name, value in generator.state_dict().items()))
few = Photos(square_scenes(1, 36), square_scenes(2, 32, first=8), size=32)
other = (config, few, generator, PatchGAN(), out / "few")
for arguments, count in ((other, 2), (job, 3), (job, 1), (other, 2)):
    try:
        train_stage("pretrain", *arguments, gpus=count)
    except ColorizeError as error:
        print(error)
"""


@pytest.mark.slow
def test_several_processes_train_and_hand_back_the_weights(tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", TWO_PROCESSES, str(out)],
        cwd=Path(__file__).parents[1],  # where conftest is
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "Launching" not in line] == [
        *("view", "view", "pretrain gan", "True"),
        "training failed: ColorizeError: batch norm needs a batch of 2 or more, or photos larger "
        "than 32",
        "GPUS = 3, but this machine has 2",
        f"{out}: go on with 2 processes (GPUS), as it began",
        "this kernel has used a GPU itself, so no other process can take it over: restart the "
        "kernel and run the cells again; the run goes on",
    ]
    # Eight photos are four batches, two for each process, and one of them reports.
    assert (done.stderr.count(" 0/2 "), done.stderr.count(" 0/4 ")) == (2, 0)
    names = sorted(path.name for path in (out / "samples").iterdir())
    assert names == ["gan-001.png", "pretrain-001.png"]


@pytest.mark.slow
def test_a_stop_of_several_processes_keeps_what_was_learnt(tmp_path):
    """In the first epoch, when there is nothing else."""
    out = tmp_path / "run"
    code = TWO_PROCESSES.replace("batch_size=2,", "batch_size=2, repeats=20_000,")
    # As in a kernel, also where the tests run in a shell's background and so ignore it.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + code
    job = subprocess.Popen(
        [sys.executable, "-c", code, str(out)],
        cwd=Path(__file__).parents[1],  # where conftest is
        env=os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1"},
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    said = b""
    while b"photos/s" not in said:  # it has taken steps
        said += (new := os.read(job.stderr.fileno(), 65536))
        assert new, said.decode()
    os.killpg(job.pid, signal.SIGINT)  # as Jupyter interrupts a kernel
    _, left = job.communicate(timeout=PATIENCE)
    assert job.returncode == 1
    assert b"stopped: what was learnt is in" in left
    state = load_generator(out / "generator").state_dict()
    assert all(value.isfinite().all() for value in state.values())
    assert not has_checkpoint(out)


def test_making_networks_leaves_a_kernel_free_to_start_processes(monkeypatch):
    monkeypatch.setattr(PartialState, "_shared_state", {})
    monkeypatch.setenv("TORCH_HOME", "/nowhere")  # what "auto" says about it counts too
    make_networks(replace(CONFIG, train=replace(CONFIG.train, encoder_weights="auto")))
    assert not PartialState._shared_state


def test_a_kernel_that_has_a_gpu_itself_starts_no_processes(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(session, "notebook_launcher", lambda *_, **__: pytest.fail("launched"))
    with pytest.raises(ColorizeError, match="restart the kernel"):
        session.train_stage("pretrain", CONFIG.train, photos, None, None, tmp_path, gpus=2)


def test_a_stop_is_one_line_and_keeps_what_was_learnt(photos, tmp_path):
    def view():
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(ColorizeError, match=r"stopped.*goes on"):
        fit(CONFIG, photos, out, ["pretrain"], view)
    assert stage_weights(out) == {"coloured": out / "generator"}
    # The stage was not finished, yet the cells below it work.
    _, history = fit(CONFIG, photos, out, ["gan"])
    assert [row["stage"] for row in history] == ["pretrain", "gan"]
    assert stage_weights(out) == {"L1 + GAN": out / "generator"}


def test_training_can_be_skipped(shipped, tmp_path, photos):
    run = tmp_path / "run"
    assert "no training" in session.use_shipped(CONFIG, run)
    assert stage_weights(run) == {"coloured": run / "generator"}
    assert evaluate_run(run, photos)["generator"]["psnr"] > 0
    session.use_shipped(CONFIG, run)  # the cell may be run again
    with pytest.raises(ColorizeError, match="without training"):
        session.open_run(CONFIG, run)
    trained = tmp_path / "trained"
    generator, discriminator = Generator(decoder_widths=SMALL_WIDTHS), PatchGAN(width=8)
    session.train_stage("pretrain", CONFIG.train, photos, generator, discriminator, trained)
    before = (trained / "generator" / "model.safetensors").read_bytes()
    with pytest.raises(ColorizeError, match="is there already"):
        session.use_shipped(CONFIG, trained)
    assert (trained / "generator" / "model.safetensors").read_bytes() == before


def test_weights_are_those_given_or_shipped_or_made(shipped, tmp_path, monkeypatch):
    assert session.weights_or_run("mine", tmp_path) == "mine"
    assert session.weights_or_run("", tmp_path) == shipped
    monkeypatch.setattr(session, "shipped_weights", lambda: None)
    monkeypatch.setattr(session, "quick_run", lambda out: out)
    assert session.weights_or_run("", tmp_path) == tmp_path / "generator"
