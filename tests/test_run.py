"""The demo, end to end but short, and what depends on a whole run."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
import torchvision
from conftest import write_photos
from PIL import Image

from colorize import run
from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.generator import Generator
from colorize.pretrained import load_generator, save_weights
from colorize.system.errors import ColorizeError
from colorize.training.checkpoint import checkpoint_path, load_checkpoint

pytestmark = pytest.mark.usefixtures("thin")


def test_demo_in_small(tmp_path, monkeypatch, capsys, shipped):
    small = dataclasses.replace(
        run.DEMO,
        data=dataclasses.replace(run.DEMO.data, size=32),
        train=dataclasses.replace(
            run.DEMO.train, repeats=2, pretrain_epochs=1, gan_epochs=1, discriminator_layers=1
        ),
    )
    monkeypatch.setattr(run, "DEMO", small)
    run.run_demo(tmp_path / "demo")
    out = capsys.readouterr().out
    assert "which was trained on" in out
    with Image.open(tmp_path / "demo" / "grey.png") as grey:
        assert grey.mode == "L"
        size = grey.size
    with Image.open(tmp_path / "demo" / "coloured.png") as colored:
        assert colored.size == size
        assert min(size) > 300
    assert (tmp_path / "demo" / "grid.png").exists()
    assert "by the weights that come with this project" in out
    with Image.open(tmp_path / "demo" / "shipped.png") as shipped_photo:
        assert (shipped_photo.mode, shipped_photo.size) == ("RGB", (426, 640))


def test_grid_says_which_photos_were_trained_on(tmp_path, monkeypatch, photos, small_generator):
    save_weights(small_generator, tmp_path / "generator")
    seen = {}
    monkeypatch.setattr(run, "grid_of", lambda *args: seen.update(captions=args[2]))
    run.run_grid(tmp_path, photos)
    assert seen["captions"] == [
        *(f"scene-{i}: trained on" for i in range(6)),
        *(f"scene-{i}: not seen in training" for i in (6, 7)),
    ]


class Stop(Exception):
    pass


def test_resume_is_exact_with_imagenet_weights_too(tmp_path, monkeypatch):
    """A resumed run does not load them again, and D must start the same all the same."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    resnet = torchvision.models.get_model("resnet18", weights=None)
    url = torchvision.models.ResNet18_Weights.DEFAULT.url
    torch.save(resnet.state_dict(), folder / Path(url).name)
    write_photos(tmp_path / "photos", 6)
    config = RunConfig(
        data=DataConfig(source=str(tmp_path / "photos"), size=32),
        train=TrainConfig(
            batch_size=3,
            pretrain_epochs=2,
            gan_epochs=1,
            encoder_weights="imagenet",
            discriminator_layers=1,
            precision="fp32",
        ),
    )
    run.run_training(config, tmp_path / "unbroken")

    def stopping(out):
        def callback(report):
            raise Stop

        return callback

    with monkeypatch.context() as patched:
        patched.setattr(run, "sample_saver", stopping)
        with pytest.raises(Stop):
            run.run_training(config, tmp_path / "broken")
    run.run_training(run.load_config(tmp_path / "broken"), tmp_path / "broken", resume=True)
    ours = load_generator(tmp_path / "broken" / "generator").state_dict()
    for name, value in load_generator(tmp_path / "unbroken" / "generator").state_dict().items():
        assert torch.equal(value, ours[name]), name


def test_left_out_photos_are_written_down(tmp_path):
    (path, *_) = write_photos(tmp_path / "photos", 5)
    path.write_bytes(b"no photo")
    config = RunConfig(
        data=DataConfig(source=str(tmp_path / "photos"), size=32),
        train=TrainConfig(
            batch_size=3,
            pretrain_epochs=1,
            gan_epochs=0,
            encoder_weights="none",
            precision="fp32",
        ),
    )
    run.run_training(config, tmp_path / "run")
    left_out = json.loads((tmp_path / "run" / "left_out.json").read_text())
    assert list(left_out["unreadable"]) == ["scene-00.png"]
    # Without a GAN stage the run still ends with weights.
    assert load_generator(tmp_path / "run" / "generator").head.bias.isfinite().all()


def test_table_has_a_column_a_network():
    metrics = {"pretrained": {"l1": 0.5, "psnr": 20.0}, "generator": {"l1": 0.25, "psnr": 9.0}}
    text = run.table(metrics)
    assert [line.split() for line in text.splitlines()] == [
        ["pretrained", "generator"],
        ["l1", "0.5000", "0.2500"],
        ["psnr", "20.0000", "9.0000"],
    ]


def test_spectral_norm_and_kept_epochs_go_on_after_a_stop(tmp_path):
    write_photos(tmp_path / "photos", 6)
    config = RunConfig(
        DataConfig(str(tmp_path / "photos"), 32, val_fraction=0.2),
        TrainConfig(
            batch_size=2,
            pretrain_epochs=1,
            gan_epochs=1,
            encoder_weights="none",
            discriminator_norm="spectral",
            discriminator_layers=1,
            precision="fp32",
        ),
    )
    out = tmp_path / "run"
    run.run_training(config, out)
    names = load_checkpoint(checkpoint_path(out))["parts"]["discriminator"]
    assert any("parametrizations" in name for name in names)
    assert not any("running_mean" in name for name in names)
    assert "with spectral norm" in (out / "generator" / "README.md").read_text()
    wanted = dataclasses.replace(config, train=dataclasses.replace(config.train, keep_epochs=True))
    assert run.changed_settings(config, wanted) == []
    run.run_training(wanted, out, resume=True)


def fine_tuning(tmp_path, **settings):
    """The settings of a run that goes on from weights and does not change them."""
    write_photos(tmp_path / "photos", 6)
    unchanging = {"pretrain_lr": 0.0, "batch_size": 2, "pretrain_epochs": 1, "gan_epochs": 0}
    unchanging["precision"] = "fp32"
    start = str(tmp_path / "start")
    return RunConfig(
        DataConfig(str(tmp_path / "photos"), 32, val_fraction=0.2),
        TrainConfig(start_weights=start, **unchanging),  # no ImageNet weights are asked for
        **settings,
    )


def test_a_run_starts_from_weights_and_says_so(tmp_path):
    config = fine_tuning(tmp_path)
    torch.manual_seed(5)
    start = Generator(working_size=64)
    save_weights(start, tmp_path / "start")
    run.run_training(config, tmp_path / "run")
    trained = load_generator(tmp_path / "run" / "pretrained")
    assert trained.working_size == 32  # the run's own
    before, after = (dict(network.named_parameters()) for network in (start, trained))
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    assert "weights of another run" in (tmp_path / "run" / "pretrained" / "README.md").read_text()


def test_a_run_that_started_from_weights_goes_on_without_them(tmp_path):
    config = fine_tuning(tmp_path)
    save_weights(Generator(working_size=64), tmp_path / "start")
    run.run_training(config, tmp_path / "run")
    shutil.rmtree(tmp_path / "start")
    moved = dataclasses.replace(config.train, start_weights=None)
    wanted = dataclasses.replace(config, train=moved)
    assert run.changed_settings(config, wanted) == ["start_weights"]  # the card tells of them
    run.run_training(config, tmp_path / "run", resume=True)


def test_weights_of_another_encoder_are_refused(tmp_path):
    config = fine_tuning(tmp_path, encoder="resnet34")
    save_weights(Generator(working_size=64), tmp_path / "start")
    with pytest.raises(
        ColorizeError, match="start: its encoder is resnet18; give --encoder resnet18"
    ):
        run.run_training(config, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_weights_of_another_decoder_are_refused(tmp_path, small_generator):
    config = fine_tuning(tmp_path)
    save_weights(small_generator, tmp_path / "start")
    with pytest.raises(ColorizeError, match="start: its decoder has other widths"):
        run.run_training(config, tmp_path / "run")


def test_a_run_teaches_hints_to_weights_that_know_none(tmp_path):
    config = fine_tuning(tmp_path)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, hints=True))
    start = Generator(working_size=64)
    save_weights(start, tmp_path / "start")
    run.run_training(config, tmp_path / "run")
    trained = load_generator(tmp_path / "run" / "pretrained")
    assert trained.hints
    before, after = dict(start.named_parameters()), dict(trained.named_parameters())
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    assert not any(after[name].any() for name in after.keys() - before.keys())


def test_weights_that_know_hints_are_not_made_to_forget_them(tmp_path):
    save_weights(Generator(working_size=64, hints=True), tmp_path / "start")
    with pytest.raises(ColorizeError, match="start: knows colour hints; give --hints"):
        run.run_training(fine_tuning(tmp_path), tmp_path / "run")


def test_without_held_out_photos_there_are_curves_and_callbacks_all_the_same(tmp_path):
    write_photos(tmp_path / "photos", 4)
    data = DataConfig(str(tmp_path / "photos"), size=64, val_fraction=0.0)
    train = TrainConfig(
        batch_size=2, pretrain_epochs=2, gan_epochs=0, encoder_weights="none", precision="fp32"
    )
    epochs = []
    run.run_training(
        RunConfig(data, train),
        tmp_path / "run",
        callbacks=[lambda report: epochs.append((report.epoch, len(report.L)))],
    )
    assert epochs == [(1, 0), (2, 0)]
    assert (tmp_path / "run" / "curves.png").is_file()
    assert not (tmp_path / "run" / "samples").exists()


def test_settings_of_another_version_are_told_with_their_file(tmp_path):
    config = RunConfig().to_dict()
    config["train"]["lambda_tv"] = 1.0
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ColorizeError, match=r"config\.json: .*lambda_tv; another version wrote it"):
        run.load_config(str(tmp_path))
