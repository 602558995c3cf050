"""The trainer: it learns, repeats itself, resumes exactly, reports, and stops cleanly."""

import copy
import csv
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from conftest import SMALL_WIDTHS
from soak import differing
from torch import nn

from colorize import trainer as trainer_module
from colorize.config import TrainConfig
from colorize.discriminator import MultiscaleGAN, PatchGAN, ProjectedGAN
from colorize.generator import Generator
from colorize.pretrained import load_generator
from colorize.system.errors import ColorizeError
from colorize.trainer import Progress, Stage, Trainer, epoch_seed, photos_per_second, run_epoch
from colorize.training.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from colorize.training.health import NotANumber

pytestmark = pytest.mark.usefixtures("thin")

CONFIG = TrainConfig(
    batch_size=3,
    repeats=2,
    pretrain_epochs=2,
    gan_epochs=2,
    encoder_weights="none",
    ema_decay=0.5,
    precision="fp32",
)


class Stop(Exception):
    """Stands in for a lost session."""


def make_trainer(photos, out=None, config=CONFIG, **options):
    torch.manual_seed(config.seed)
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32, hints=config.hints)
    return Trainer(config, photos, generator, PatchGAN(width=8), out=out, progress=False, **options)


def train(trainer):
    trainer.pretrain()
    trainer.train_gan()
    return trainer


def without_times(history):
    return [{k: v for k, v in row.items() if "second" not in k} for row in history]


def assert_same_weights(ours, theirs):
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def test_the_same_seed_gives_the_same_numbers(photos):
    first, second = train(make_trainer(photos)), train(make_trainer(photos))
    assert without_times(first.history) == without_times(second.history)
    assert_same_weights(first.generator, second.generator)


def test_a_damaged_checkpoint_costs_one_epoch_and_nothing_else(photos, tmp_path, capsys):
    unbroken = train(make_trainer(photos, tmp_path / "unbroken"))

    def stop(report):
        if len(report.history) == 3:
            raise Stop

    with pytest.raises(Stop):
        train(make_trainer(photos, tmp_path / "broken", callbacks=[stop]))
    last = tmp_path / "broken" / "checkpoints" / "last.pt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    resumed = train(make_trainer(photos, tmp_path / "broken", resume=True))
    assert "damaged; going on from previous.pt" in capsys.readouterr().out
    assert without_times(resumed.history) == without_times(unbroken.history)
    assert_same_weights(resumed.generator, unbroken.generator)


STOPS = {  # stage, epochs of it that are done, steps of the next
    "pretrain": [("pretrain", 0, 1), ("pretrain", 1, 0), ("pretrain", 2, 0)],
    "gan": [("gan", 0, 1), ("gan", 1, 0)],
}
END = ("gan", 2, 0)


class Checkpoints:
    """Stand in for what a trainer writes: those at `places` in a folder each, the last in memory.

    A run saves after each step, and to write all of it would take longer than to learn.
    """

    def __init__(self, monkeypatch, folder, places=()):
        self.folder, self.places = folder, places
        monkeypatch.setattr(trainer_module, "save_checkpoint", self.save)
        monkeypatch.setattr(trainer_module, "save_weights", lambda generator, folder: None)

    def save(self, path, state):
        place = (state["stage"], state["epoch"], state["done"]["steps"])
        if place in self.places:
            save_checkpoint(checkpoint_path(self.run(place)), state)
        if place == END:
            self.last = deepcopy(state)

    def run(self, place):
        return self.folder / "-".join(map(str, place))


def seeded_trainer(photos, out, config, **options):
    """With networks as a run draws them for its seed, but for their sizes."""
    torch.manual_seed(config.seed)
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32)
    small = {"width": 8, "norm": config.discriminator_norm}
    layers = {"layers": config.discriminator_layers}
    kinds = {
        "patch": lambda: PatchGAN(**small, **layers),
        "multiscale": lambda: MultiscaleGAN(**small, **layers),
        "projected": lambda: ProjectedGAN(**small),
    }
    networks = (generator, kinds[config.discriminator]())
    return Trainer(config, photos, *networks, out=out, progress=False, **options)


# All that has a state, or draws: each alone or, where that is as telling, some together.
RECIPES = {
    "batch": {},
    "spectral": {"discriminator_norm": "spectral"},
    "wgan-gp": {"objective": "wgan-gp", "discriminator_norm": "layer"},
    "multiscale": {"discriminator": "multiscale", "discriminator_layers": 1},
    "projected": {"discriminator": "projected", "discriminator_norm": "spectral"},
    "features": {"lambda_features": 1.0, "freeze_encoder": True},
    "first": {"discriminator_first": 1.5},
}


@pytest.mark.parametrize(
    ("stage", "recipe"), [("pretrain", "batch"), *(("gan", recipe) for recipe in RECIPES)]
)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_unbroken_one(
    photos, tmp_path, monkeypatch, imagenet_file, precision, stage, recipe
):
    """Bit for bit in all that a checkpoint holds: weights, averages, optimizers, schedules.

    Stopped at the end of an epoch, of a stage, and in the middle of an epoch.
    """
    config = replace(
        CONFIG,
        repeats=1,  # two steps an epoch
        checkpoint_minutes=0.0,
        min_crop_area=0.5,
        lightness_jitter=0.2,
        precision=precision,
        **RECIPES[recipe],
    )
    unbroken = Checkpoints(monkeypatch, tmp_path, STOPS[stage])
    train(seeded_trainer(photos, tmp_path / "unbroken", config))
    for stop in STOPS[stage]:
        torch.manual_seed(99)  # nothing may hang on what the first process drew
        resumed = Checkpoints(monkeypatch, tmp_path)
        train(seeded_trainer(photos, resumed.run(stop), config, resume=True))
        assert (stop, differing(resumed.last, unbroken.last)) == (stop, [])


class Killed(BaseException):
    """Stands in for SIGKILL in the middle of an epoch."""


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_a_long_epoch_is_saved_in_its_middle(photos, tmp_path, stage):
    """Also with a network that draws: dropout must fall as it would have."""
    config = replace(CONFIG, checkpoint_minutes=0.0)

    def dropout_trainer(out, **options):
        trainer = make_trainer(photos, out, config, **options)
        trainer.generator.head.register_forward_pre_hook(
            lambda _, inputs: torch.dropout(inputs[0], 0.5, trainer.generator.training)
        )
        return trainer

    unbroken = train(dropout_trainer(tmp_path / "unbroken"))
    broken = dropout_trainer(tmp_path / "broken")
    update, steps = broken.averaged.update_parameters, []

    def stop(network):
        steps.append(1)
        if len(steps) == (7 if stage == "pretrain" else 15):
            raise Killed
        update(network)

    broken.averaged.update_parameters = stop
    with pytest.raises(Killed):
        train(broken)
    load_generator(tmp_path / "broken" / "generator")
    kept = load_checkpoint(tmp_path / "broken" / "checkpoints" / "last.pt")
    assert (kept["stage"], kept["epoch"], kept["done"]["steps"]) == (stage, 1, 2)
    resumed = train(dropout_trainer(tmp_path / "broken", resume=True))
    assert without_times(resumed.history) == without_times(unbroken.history)
    assert_same_weights(resumed.generator, unbroken.generator)


def test_weights_are_there_from_the_first_checkpoint_on(photos, tmp_path):
    """Also if nothing but SIGKILL ended the first epoch."""
    trainer = make_trainer(photos, tmp_path, replace(CONFIG, checkpoint_minutes=0.0))
    update, steps = trainer.averaged.update_parameters, []

    def stop(network):
        steps.append(1)
        if len(steps) == 3:
            raise Killed
        update(network)

    trainer.averaged.update_parameters = stop
    with pytest.raises(Killed):
        train(trainer)
    kept = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert (kept["epoch"], kept["done"]["steps"]) == (0, 2)
    load_generator(tmp_path / "generator")


def test_two_runs_in_one_folder_do_not_mix(photos, tmp_path):
    hold = (
        "import sys, time; from pathlib import Path; from colorize.system.lock import only_run\n"
        "with only_run(Path(sys.argv[1])): print('held', flush=True); time.sleep(3600)"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ColorizeError, match="another process is training there"):
            make_trainer(photos, tmp_path / "run").pretrain()
        other.kill()
    make_trainer(photos, tmp_path / "run").pretrain()


def test_a_finished_run_resumes_to_itself(photos, tmp_path):
    done = train(make_trainer(photos, tmp_path))
    again = train(make_trainer(photos, tmp_path, resume=True))
    assert again.history == done.history
    assert_same_weights(again.generator, done.generator)


def test_a_run_is_not_begun_again_on_top_of_itself(photos, tmp_path):
    done = train(make_trainer(photos, tmp_path))
    with pytest.raises(ColorizeError, match="holds a run"):
        make_trainer(photos, str(tmp_path))
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + len(done.history)


def test_a_run_goes_on_with_the_settings_and_networks_it_began_with(photos, tmp_path):
    train(make_trainer(photos, tmp_path))
    other = replace(CONFIG, pretrain_epochs=4, gan_lr=1.0, start_weights="moved", keep_epochs=True)
    with pytest.raises(ColorizeError, match="began with another pretrain_epochs, gan_lr; set it"):
        make_trainer(photos, tmp_path, other, resume=True)
    generator = Generator(decoder_widths=[4] * len(SMALL_WIDTHS), working_size=32)
    config = replace(CONFIG, start_weights="moved", keep_epochs=True)
    trainer = Trainer(config, photos, generator, PatchGAN(width=8), tmp_path, resume=True)
    with pytest.raises(ColorizeError, match=r"of other networks.*; build them as they were"):
        trainer.train_gan()


def test_settings_of_the_gan_are_open_until_it_begins(photos, tmp_path):
    make_trainer(photos, tmp_path).pretrain()
    history = train(
        make_trainer(photos, tmp_path, replace(CONFIG, gan_lr=1e-5), resume=True)
    ).history
    assert [row["stage"] for row in history].count("gan") == CONFIG.gan_epochs
    with pytest.raises(ColorizeError, match="another gan_lr"):
        make_trainer(photos, tmp_path, resume=True)


def test_wgan_gp_refuses_batch_norm_in_a_discriminator_of_ones_own(photos):
    config = replace(CONFIG, objective="wgan-gp", discriminator_norm="spectral")
    own = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 3))
    with pytest.raises(ColorizeError, match="this D has batch norm"):
        Trainer(config, photos, Generator(decoder_widths=SMALL_WIDTHS, working_size=32), own)


def test_callbacks_are_called_without_held_out_photos_too(photos, tmp_path):
    reports = []
    alone = replace(photos, val=photos.val.part(len(photos.val), 1))
    config = replace(CONFIG, gan_epochs=0)
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32)
    Trainer(config, alone, generator, callbacks=[reports.append]).pretrain()
    assert [report.epoch for report in reports] == [*range(1, CONFIG.pretrain_epochs + 1)]
    assert reports[0].ab_true.shape == (0, 2, 32, 32)


def test_resume_without_a_checkpoint_says_so(photos, tmp_path):
    with pytest.raises(ColorizeError, match=r"last\.pt: no checkpoint"):
        make_trainer(photos, tmp_path, resume=True)


def test_training_learns(photos):
    config = TrainConfig(
        batch_size=3, repeats=10, pretrain_epochs=4, encoder_weights="none", precision="fp32"
    )
    history = make_trainer(photos, config=config).pretrain()
    assert history[-1]["l1"] < 0.6 * history[0]["l1"]


def test_history_has_a_row_an_epoch(photos, tmp_path):
    train(make_trainer(photos, tmp_path))
    with open(tmp_path / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(r["stage"], r["epoch"]) for r in rows] == [
        ("pretrain", "1"),
        ("pretrain", "2"),
        ("gan", "1"),
        ("gan", "2"),
    ]
    assert all(float(r["val_l1"]) > 0 and float(r["photos_per_second"]) > 0 for r in rows)
    assert rows[0]["d"] == ""
    assert float(rows[3]["d"]) > 0


def test_callbacks_get_photos_held_out_from_training(photos):
    reports = []
    train(make_trainer(photos, callbacks=[reports.append]))
    assert [(r.stage, r.epoch, r.epochs) for r in reports] == [
        ("pretrain", 1, 2),
        ("pretrain", 2, 2),
        ("gan", 1, 2),
        ("gan", 2, 2),
    ]
    report = reports[-1]
    assert report.L.shape == (2, 1, 32, 32)
    assert report.ab_predicted.shape == report.ab_true.shape == (2, 2, 32, 32)
    assert len(report.history) == 4


def test_the_average_lags_behind_and_is_what_is_kept(photos):
    trainer = make_trainer(photos)
    trainer.pretrain()
    assert_same_weights(trainer.generator, trainer.averaged.module)
    assert trainer.averaged.n_averaged == CONFIG.pretrain_epochs * 4


def test_an_interrupted_stage_leaves_a_usable_generator(photos):
    def stop(report):
        raise KeyboardInterrupt

    trainer = make_trainer(photos, callbacks=[stop])
    with pytest.raises(KeyboardInterrupt):
        trainer.pretrain()
    assert "forward" not in vars(trainer.generator)  # Accelerate's wrapper is not on it
    ab = trainer.generator.eval()(torch.zeros(1, 1, 32, 32))
    assert ab.isfinite().all()


def test_an_interrupted_first_epoch_leaves_what_it_learnt_on_the_disk(photos, tmp_path):
    trainer = make_trainer(photos, tmp_path)
    update, steps = trainer.averaged.update_parameters, []

    def stop_after_two(network):
        update(network)
        steps.append(1)
        if len(steps) == 2:
            raise KeyboardInterrupt

    trainer.averaged.update_parameters = stop_after_two
    with pytest.raises(KeyboardInterrupt):
        trainer.pretrain()
    assert_same_weights(load_generator(tmp_path / "generator"), trainer.generator)
    assert not (tmp_path / "checkpoints").exists()  # so the epoch will be repeated


def poisoned(photos, out, name, value):
    """A trainer whose first epoch ends with a weight that is no number."""
    trainer = make_trainer(photos, out)

    def poison(report):
        if len(report.history) == 1:
            with torch.no_grad():
                trainer.generator.get_parameter(name).fill_(value)

    trainer.callbacks = [poison]
    return trainer


def assert_first_epoch_is_kept(out):
    checkpoint = load_checkpoint(out / "checkpoints" / "last.pt")
    assert checkpoint["epoch"] == 1
    assert checkpoint["parts"]["generator"]["head.weight"].isfinite().all()
    assert load_generator(out / "generator").head.weight.isfinite().all()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(photos, tmp_path):
    trainer = poisoned(photos, tmp_path, "head.weight", float("nan"))
    message = r"pretrain 2/2, step 1: l1 .*weights of the generator.*--pretrain-lr \(now 0\.001\)"
    with pytest.raises(ColorizeError, match=message):
        trainer.pretrain()
    assert_first_epoch_is_kept(tmp_path)


def test_a_weight_that_is_no_number_is_not_saved(photos, tmp_path):
    """Losses are numbers, but what would be kept is not."""
    trainer = make_trainer(photos, tmp_path)

    def poison(report):
        trainer.averaged.module.head.bias.data.fill_(float("inf"))

    trainer.callbacks = [poison]
    with pytest.raises(ColorizeError, match=r"after epoch 2 .*averaged\.module\.head\.bias"):
        trainer.pretrain()
    assert_first_epoch_is_kept(tmp_path)


def test_a_loss_that_is_no_number_is_not_saved(photos, tmp_path):
    """fp16 passes over such a step, and the weights stay as they were."""
    trainer = make_trainer(photos, tmp_path, replace(CONFIG, checkpoint_minutes=0.0))
    stage, taken = trainer.pretrain_stage(), []

    def step(L, ab):
        taken.append(1)
        return {"l1": torch.tensor(float("nan") if len(taken) == 2 else 0.5)}

    stage.step, stage.schedules = step, []
    with pytest.raises(ColorizeError, match=r"after epoch 0 and 2 steps: loss\.l1 is not a number"):
        trainer._fit(stage)
    kept = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert (kept["done"]["steps"], kept["done"]["totals"]["l1"]) == (1, 0.5)


def test_a_lost_game_is_said_and_kept_in_the_history(photos, tmp_path, capsys):
    """D that knows the answer from the start: its loss is zero."""

    class Oracle(PatchGAN):
        asked = 0

        def forward(self, lab):
            self.asked += 1  # by turns shown true and false colours
            return super().forward(lab) * 0 + (20.0 if self.asked % 2 else -20.0)

    trainer = make_trainer(photos, tmp_path)
    trainer.discriminator = trainer.networks["discriminator"] = Oracle(width=8)
    train(trainer)
    assert "gan epoch 2: the discriminator always wins" in capsys.readouterr().out
    with open(tmp_path / "history.csv") as file:
        warnings = [row["warning"] for row in csv.DictReader(file)]
    assert [bool(warning) for warning in warnings] == [False, False, True, True]


def two_at_a_time(trainer):
    """A memory that holds no more photos in training."""
    forward = trainer.generator.encoder.stem.forward

    def limited(L, hints):
        if trainer.generator.training and len(L) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(L, hints)

    trainer.generator.encoder.stem.forward = limited


def test_a_batch_that_does_not_fit_is_split(photos, tmp_path, capsys):
    trainer = make_trainer(photos, tmp_path, replace(CONFIG, batch_size=4))
    two_at_a_time(trainer)
    history = train(trainer).history
    assert [row["stage"] for row in history] == ["pretrain"] * 2 + ["gan"] * 2
    said = [line for line in capsys.readouterr().out.splitlines() if "out of memory" in line]
    assert len(said) == 2  # once a stage


def test_a_resumed_run_splits_batches_as_before(photos, tmp_path, monkeypatch):
    """Though they would fit today: batch norm must see the same photos together."""
    config = replace(CONFIG, batch_size=4, pretrain_epochs=0, checkpoint_minutes=0.0)
    stop = ("gan", 1, 0)
    unbroken = Checkpoints(monkeypatch, tmp_path, [stop])
    trainer = make_trainer(photos, tmp_path / "unbroken", config)
    two_at_a_time(trainer)
    train(trainer)
    resumed = Checkpoints(monkeypatch, tmp_path)
    train(make_trainer(photos, resumed.run(stop), config, resume=True))
    assert unbroken.last["batch_parts"] == 2
    assert differing(resumed.last, unbroken.last) == []


def test_a_checkpoint_from_before_batches_were_split_goes_on(photos, tmp_path):
    done = train(make_trainer(photos, tmp_path))
    state = load_checkpoint(checkpoint_path(tmp_path))
    del state["batch_parts"]
    save_checkpoint(checkpoint_path(tmp_path), state)
    assert_same_weights(
        train(make_trainer(photos, tmp_path, resume=True)).generator, done.generator
    )


def test_what_l1_left_moves_nothing_while_the_discriminator_learns_alone(photos):
    config = replace(CONFIG, pretrain_epochs=1, discriminator_first=1.0)
    trainer = make_trainer(photos, config=config)
    trainer.pretrain()
    start, moved = {n: p.detach().clone() for n, p in trainer.generator.named_parameters()}, []

    def look(report):
        now = trainer.generator.named_parameters()
        moved.append(any(not torch.equal(p, start[name]) for name, p in now))

    trainer.callbacks = [look]
    history = trainer.train_gan()
    assert moved == [False, True]
    assert not any("skipped_steps" in row for row in history)


def test_the_discriminator_learns_alone_at_first(photos, tmp_path):
    """In the first two of four steps; none of them counts as lost."""
    config = replace(CONFIG, repeats=1, pretrain_epochs=0, discriminator_first=1.0)
    trainer, seen = make_trainer(photos, config=config), []
    start = {name: p.clone() for name, p in trainer.generator.named_parameters()}
    start_d = {name: p.clone() for name, p in trainer.discriminator.named_parameters()}

    def look(report):
        now = {"G": (trainer.generator, start), "D": (trainer.discriminator, start_d)}
        for name, (network, old) in now.items():
            moved = [not torch.equal(p, old[key]) for key, p in network.named_parameters()]
            seen.append((report.epoch, name, any(moved)))
        average = dict(trainer.averaged.module.named_parameters())
        assert (report.epoch == 1) == all(torch.equal(p, average[key]) for key, p in start.items())

    trainer.callbacks = [look]
    train(trainer)
    assert seen == [(1, "G", False), (1, "D", True), (2, "G", True), (2, "D", True)]
    assert all(row.keys() >= {"d", "gan", "l1"} for row in trainer.history)
    assert not any("skipped_steps" in row for row in trainer.history)


def test_a_frozen_encoder_stays_as_it_was_and_can_learn_again(photos):
    trainer = make_trainer(photos, config=replace(CONFIG, freeze_encoder=True))
    trainer.pretrain()
    before = copy.deepcopy(trainer.generator.state_dict())
    trainer.train_gan()
    for name, now in trainer.generator.state_dict().items():
        if name.startswith("encoder."):
            assert torch.equal(now, before[name]), name
    assert not torch.equal(trainer.generator.head.weight, before["head.weight"])
    assert all(p.requires_grad for p in trainer.generator.parameters())


def test_losses_of_other_objectives_are_in_the_history(photos, imagenet_file):
    config = replace(
        CONFIG, objective="wgan-gp", discriminator_norm="layer", lambda_features=0.5, gan_epochs=1
    )
    rows = train(seeded_trainer(photos, None, config)).history
    assert [row.keys() & {"penalty", "features"} for row in rows] == [set()] * 2 + [
        {"penalty", "features"}
    ]
    assert 0 < rows[-1]["penalty"] < 2


def test_the_penalty_is_computed_in_float32(photos):
    """It is a gradient's gradient; the looks at true and at false colours are in bf16."""
    config = replace(CONFIG, objective="wgan-gp", discriminator_norm="layer", precision="bf16")
    trainer, seen = seeded_trainer(photos, None, replace(config, pretrain_epochs=0)), []
    layer = trainer.discriminator.blocks[0]
    layer.register_forward_hook(lambda _, __, out: seen.append(out.dtype))
    train(trainer)
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32] * (len(seen) // 3)


@pytest.mark.parametrize("changes", [{"lambda_features": 1.0}, {"objective": "wgan-gp"}])
def test_what_the_gan_lacks_is_said_before_pretraining(photos, tmp_path, monkeypatch, changes):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ColorizeError, match=r"resnet18|--discriminator-norm"):
        make_trainer(photos, config=replace(CONFIG, **changes))


def test_gan_training_needs_a_discriminator(photos, small_generator):
    trainer = Trainer(CONFIG, photos, small_generator, progress=False)
    with pytest.raises(ColorizeError, match="needs a discriminator"):
        trainer.train_gan()


def test_both_networks_compute_in_bf16_in_both_stages(photos):
    """And again for the next trainer of the same networks; their weights stay float32."""
    config = replace(CONFIG, pretrain_epochs=1, gan_epochs=1, precision="bf16")
    trainer, seen = make_trainer(photos, config=config), []
    for name, layer in (("G", trainer.generator.head), ("D", trainer.discriminator.blocks[0])):
        layer.register_forward_hook(lambda _, __, out, name=name: seen.append((name, out.dtype)))
    train(trainer)
    networks = (trainer.generator, trainer.discriminator)
    Trainer(config, photos, *networks, progress=False).train_gan()
    assert set(seen) == {("G", torch.bfloat16), ("D", torch.bfloat16)}
    assert {p.dtype for network in networks for p in network.parameters()} == {torch.float32}


def test_an_fp16_run_is_not_resumed_on_a_cpu(photos, tmp_path):
    train(make_trainer(photos, tmp_path))
    path = tmp_path / "checkpoints" / "last.pt"
    state = load_checkpoint(path)
    save_checkpoint(path, state | {"precision": "fp16"})
    with pytest.raises(ColorizeError, match="on a GPU only"):
        make_trainer(photos, tmp_path, resume=True)


def test_a_checkpoint_of_something_else_is_refused(photos, tmp_path):
    save_checkpoint(tmp_path / "checkpoints" / "last.pt", {"foo": 1})
    with pytest.raises(ColorizeError, match="not a checkpoint of this version"):
        make_trainer(photos, tmp_path, resume=True)


def test_another_number_of_processes_is_refused(photos, tmp_path):
    make_trainer(photos, tmp_path).pretrain()
    path = tmp_path / "checkpoints" / "last.pt"
    save_checkpoint(path, load_checkpoint(path) | {"processes": 2})
    with pytest.raises(ColorizeError, match="go on with 2 processes"):
        make_trainer(photos, tmp_path, resume=True)


def test_changed_photos_are_noticed_on_resume(photos, tmp_path):
    train(make_trainer(photos, tmp_path))
    photos.train.names[0], photos.val.names[0] = photos.val.names[0], photos.train.names[0]
    with pytest.raises(ColorizeError, match="the split, have changed"):
        make_trainer(photos, tmp_path, resume=True)


def test_the_weights_of_each_epoch_are_kept_if_wished(photos, tmp_path):
    trainer = train(make_trainer(photos, tmp_path, replace(CONFIG, keep_epochs=True)))
    kept = sorted(path.name for path in (tmp_path / "epochs").iterdir())
    assert kept == ["gan-01", "gan-02", "pretrain-01", "pretrain-02"]
    same = {
        "pretrain-02": load_generator(tmp_path / "pretrained"),
        "gan-02": trainer.averaged.module,
    }
    for name, network in same.items():
        assert_same_weights(load_generator(tmp_path / "epochs" / name), network)
    first, second = (load_generator(tmp_path / "epochs" / f"gan-0{i}") for i in (1, 2))
    assert not torch.equal(first.head.weight, second.head.weight)


@pytest.fixture
def trainer(photos, small_generator):
    config = TrainConfig(
        pretrain_epochs=2, gan_epochs=3, batch_size=2, ema_decay=0.9, precision="fp32"
    )
    return Trainer(config, photos, small_generator, PatchGAN(width=8))


@pytest.fixture
def batch(trainer):
    """On the device."""
    return next(trainer.batches.epoch(seed=0))


def test_pretraining_moves_the_generator_and_its_average(trainer, batch):
    stage = trainer.pretrain_stage()
    assert (stage.name, stage.epochs, stage.parts.keys()) == ("pretrain", 2, {"g_optimizer"})
    assert stage.step(*batch).keys() == {"l1"}
    assert trainer.averaged.n_averaged == 1
    assert stage.schedules[0].total_steps == 2 * 3


def test_the_gan_stage_keeps_all_that_has_a_state(trainer, batch):
    stage = trainer.gan_stage()
    assert stage.step(*batch).keys() == {"d", "gan", "l1"}
    assert stage.parts.keys() == {"g_optimizer", "d_optimizer", "discriminator"}
    assert trainer.averaged.n_averaged == 1
    for schedule in stage.schedules:
        factor = schedule.lr_lambdas[0]
        assert (factor(0), factor(4.5), factor(9)) == (1, 1, 0)


class Counter:
    steps = 0

    def step(self):
        self.steps += 1


def batches(count):
    return ((torch.full((2, 1, 4, 4), float(i)), torch.zeros(2, 2, 4, 4)) for i in range(count))


def test_losses_are_averaged_and_schedules_step():
    schedule = Counter()
    stage = Stage("pretrain", 1, lambda L, ab: {"l1": L.mean()}, [schedule], {})
    done = run_epoch(stage, 0, batches(4), 4, show=False)
    row = done.row(Accelerator(cpu=True))
    assert row["l1"] == pytest.approx((0 + 1 + 2 + 3) / 4)
    assert row["photos_per_second"] > 0
    assert row.keys() == {"l1", "seconds", "photos_per_second"}
    assert schedule.steps == 4


def test_a_bar_shows_losses_and_speed(capsys):
    stage = Stage("gan", 5, lambda L, ab: {"d": L.mean()}, [], {})
    run_epoch(stage, 1, batches(20), 20, show=True)
    err = capsys.readouterr().err
    assert "gan 2/5" in err
    assert "d=" in err
    assert "photos/s=" in err


def test_an_epoch_goes_on_where_it_stopped():
    stage = Stage("pretrain", 1, lambda L, ab: {"l1": L.mean()}, [], {})
    whole = run_epoch(stage, 0, batches(6), 6, show=False)
    kept = []

    def keep(done):
        if done.steps == 2:
            kept.append(copy.deepcopy(done))

    run_epoch(stage, 0, batches(6), 6, show=False, after_step=keep)
    left = list(batches(6))[2:]
    done = run_epoch(stage, 0, left, 6, show=False, done=Progress(**vars(kept[0])))
    assert (done.steps, done.photos, done.totals) == (whole.steps, whole.photos, whole.totals)
    assert done.seconds > kept[0].seconds


@pytest.mark.parametrize("bad", [3, 14, 25])
def test_no_number_names_the_epoch_the_step_and_the_loss(bad):
    """Within ten steps, though a look at every loss would wait for the device."""
    taken = []

    def step(L, ab):
        taken.append(1)
        broken = len(taken) == bad
        return {"d": torch.tensor(float("inf") if broken else 1.0), "l1": torch.tensor(0.5)}

    with pytest.raises(NotANumber, match=rf"gan 3/5, step {bad}: d is not a number"):
        run_epoch(Stage("gan", 5, step, [], {}), 2, batches(25), 25, show=False)
    assert bad <= len(taken) < bad + 10


def test_steps_that_fp16_skipped_are_counted():
    """The real scaler, Accelerate's real optimizer and a fused Adam as in training."""
    network = torch.nn.Linear(1, 1)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = AcceleratedOptimizer(
        torch.optim.Adam(network.parameters(), 0.1, fused=True), scaler=scaler
    )

    def step(L, ab):
        optimizer.zero_grad()
        scaler.scale(network(torch.ones(1, 1)).sum()).backward()
        if L.max() == 1:
            network.weight.grad.fill_(float("inf"))
        optimizer.step()
        return {"l1": L.mean()}

    Accelerator(cpu=True)
    stage = Stage("pretrain", 1, step, [], {"g_optimizer": optimizer})
    done = run_epoch(stage, 0, batches(4), 4, show=False)
    assert done.skipped == 1
    assert run_epoch(stage, 1, batches(1), 1, show=False).skipped == 0
    assert done.row(Accelerator(cpu=True))["skipped_steps"] == 1
    assert network.weight.isfinite().all()


def test_each_epoch_of_each_stage_has_an_order_of_its_own():
    seeds = {
        epoch_seed(seed, stage, epoch)
        for seed in (0, 1)
        for stage in ("pretrain", "gan")
        for epoch in range(50)
    }
    assert len(seeds) == 200


def test_training_with_hints_goes_on_exactly_and_keeps_what_it_learnt(photos, tmp_path):
    config = replace(CONFIG, hints=True)
    unbroken = train(make_trainer(photos, config=config))
    first = make_trainer(photos, tmp_path, replace(config, gan_epochs=0))
    train(first)
    resumed = train(make_trainer(photos, tmp_path, config, resume=True))
    assert without_times(resumed.history) == without_times(unbroken.history)
    assert_same_weights(resumed.generator, unbroken.generator)
    kept = load_generator(tmp_path / "generator")
    assert kept.hints
    entries = [p for name, p in kept.named_parameters() if "from_hints" in name]
    assert [bool(weight.any()) for weight in entries] == [True, True]


def test_a_generator_and_settings_that_differ_on_hints_are_refused(photos):
    for hints in (True, False):
        generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=32, hints=hints)
        with pytest.raises(
            ColorizeError, match=r"hints: the (settings do|generator does), the other not"
        ):
            Trainer(replace(CONFIG, hints=not hints), photos, generator)


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_speed_is_measured_and_the_networks_stay_as_they_are(
    photos, small_generator, monkeypatch, stage
):
    taken = []

    class Recorder(Trainer):
        def __init__(self, *rest, **options):
            super().__init__(*rest, **options)
            taken.append(len(self.batches))

    monkeypatch.setattr(trainer_module, "Trainer", Recorder)
    networks = (small_generator, PatchGAN(width=8))
    before = copy.deepcopy([network.state_dict() for network in networks])
    config = replace(CONFIG, discriminator_first=3.0)  # cheap steps, which the speed leaves out
    assert 0 < photos_per_second(config, photos, *networks, stage, 8) < float("inf")
    assert taken == [8]  # of six photos, two or three a step
    for kept, network in zip(before, networks, strict=True):
        assert all(torch.equal(kept[k], v) for k, v in network.state_dict().items())
