"""What notebooks lean on: runs that go on, views in place, short errors."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import SMALL_WIDTHS

from colorize import notebook
from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.discriminator import PatchGAN
from colorize.errors import ColorizeError
from colorize.generator import Generator

CONFIG = RunConfig(
    DataConfig("builtin", 32),
    TrainConfig(batch_size=2, pretrain_epochs=1, gan_epochs=1, precision="fp32"),
)


def test_built_in_photos_get_many_crops_and_need_no_network():
    train = TrainConfig(batch_size=0, pretrain_epochs=2, encoder_weights="auto")
    config = notebook.make_config(DataConfig("builtin", 64), train)
    assert config.train.repeats > 10
    assert (config.data.size, config.train.pretrain_epochs) == (64, 2)
    assert (config.train.batch_size, config.train.encoder_weights) == (8, "none")


def test_a_batch_size_is_kept_and_none_is_found():
    data = DataConfig("coco", 64)
    assert notebook.make_config(data, TrainConfig(batch_size=3)).train.batch_size == 3
    assert notebook.make_config(data, TrainConfig(batch_size=0)).train.batch_size >= 4
    assert notebook.make_config(replace(data, source="builtin"), CONFIG.train).train.batch_size == 2
    assert notebook.make_config(data, TrainConfig()) == RunConfig(data, TrainConfig())


def fit(config, photos, out, stages=("pretrain", "gan"), view=lambda: None):
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32)
    print(notebook.open_run(config, out))
    for stage in stages:
        history = notebook.train_stage(
            stage, config.train, photos, generator, PatchGAN(), out, view
        )
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


def test_a_run_with_other_settings_is_left_alone(photos, tmp_path):
    out = tmp_path / "run"
    fit(CONFIG, photos, out, ["pretrain"])
    other = replace(CONFIG, data=replace(CONFIG.data, size=64))
    with pytest.raises(ColorizeError, match="another size"):
        notebook.open_run(other, out)


def test_the_view_is_one_and_the_same_for_all_epochs(photos, tmp_path, monkeypatch):
    shown, updated = [], []

    class Handle:
        def update(self, image):
            updated.append(image)

    def display(image, display_id):
        shown.append(image)
        return Handle()

    monkeypatch.setattr(notebook, "display", display)
    out = tmp_path / "run"
    fit(CONFIG, photos, out, view=notebook.live_view(out))
    assert (len(shown), len(updated)) == (2, 2)
    notebook.live_view(out)  # later, with what is on the disk
    assert len(shown) == 4


TWO_PROCESSES = """
import os
import subprocess
import sys
from pathlib import Path

import accelerate
import torch
from conftest import SMALL_WIDTHS, square_scenes

from colorize.checkpoint import load_generator
from colorize.config import TrainConfig
from colorize.data import Photos
from colorize.discriminator import PatchGAN
from colorize.generator import Generator
from colorize.notebook import train_stage

# The launcher for notebooks starts several processes on GPUs only; this one is its twin for CPUs.
accelerate.notebook_launcher = lambda function, args, num_processes: accelerate.debug_launcher(
    function, args, num_processes
)
photos = Photos(square_scenes(8, 36), square_scenes(2, 32, first=8), size=32)
config = TrainConfig(batch_size=2, pretrain_epochs=1, gan_epochs=1, precision="fp32")
generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32)
out = Path(sys.argv[1])
job = (config, photos, generator, PatchGAN(), out)
for stage in ("pretrain", "gan"):
    history = train_stage(stage, *job, lambda: print("view"), gpus=2)
print(*(row["stage"] for row in history))
kept = load_generator(out / "generator").state_dict()
print(all(torch.equal(kept[name], value) for name, value in generator.state_dict().items()))
"""


def test_several_processes_train_and_hand_back_the_weights(tmp_path):
    out = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", TWO_PROCESSES, str(out)],
        cwd=Path(__file__).parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["view", "view", "pretrain gan", "True"]
    # Eight photos are four batches, two for each process, and one of them reports.
    assert (done.stderr.count(" 0/2 "), done.stderr.count(" 0/4 ")) == (2, 0)
    names = sorted(path.name for path in (out / "samples").iterdir())
    assert names == ["gan-001.png", "pretrain-001.png"]


def test_a_stop_is_one_line_and_keeps_what_was_learnt(photos, tmp_path):
    def view():
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with pytest.raises(ColorizeError, match=r"stopped.*goes on"):
        fit(CONFIG, photos, out, ["pretrain"], view)
    kept = notebook.load_generator(out / "generator")
    # The stage was not finished, yet the cells below it work.
    generator, history = fit(CONFIG, photos, out, ["gan"])
    assert [row["stage"] for row in history] == ["pretrain", "gan"]
    rgb = photos.val.middle([0, 1], 32)
    versions = {"L1": out / "pretrained", "L1 + GAN": out / "generator"}
    _, shown = notebook.predictions(rgb, versions)
    assert list(shown) == ["L1 + GAN", "truth"]
    assert kept.working_size == generator.working_size


def test_errors_for_the_user_are_one_line(capsys):
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    try:
        notebook.one_line_errors()
        shell.push({"ColorizeError": ColorizeError})
        result = shell.run_cell("raise ColorizeError('a smaller batch')")
        assert isinstance(result.error_in_exec, ColorizeError)
        assert capsys.readouterr().out == "a smaller batch\n"
        shell.run_cell("1 / 0")
        assert "Traceback" in capsys.readouterr().out
    finally:
        InteractiveShell.clear_instance()
