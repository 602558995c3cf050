"""One run from photos to a finished run folder, and the demo."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import nn

from colorize.config import DataConfig, RunConfig, TrainConfig, changed
from colorize.dataset import Photos, agree, load_photos, spread
from colorize.discriminator import make_discriminator
from colorize.evaluate import at_working_size, grid_of, measure, table
from colorize.generator import Generator
from colorize.photos.read import open_photo
from colorize.photos.sources import builtin_photos
from colorize.photos.write import save_photo
from colorize.predict import Colorizer
from colorize.pretrained import load_generator, shipped_weights
from colorize.system.device import of_several, process_state
from colorize.system.errors import ColorizeError, printable
from colorize.system.files import ASSETS, UNFINISHED, real_path, write_json, write_whole
from colorize.system.lock import only_run
from colorize.system.progress import say
from colorize.trainer import EpochReport, Trainer
from colorize.training.checkpoint import has_checkpoint
from colorize.viz import Figure, curves, grid, save
from colorize.weights.card import CARD_NAME, bare_card, run_card

# Seven photos can only be learnt by heart, so: many crops of each, few held out, a short average.
DEMO = RunConfig(
    data=DataConfig(source="builtin", size=128, val_fraction=0.25, crop_margin=0.25),
    train=TrainConfig(
        batch_size=8,
        repeats=40,
        pretrain_epochs=5,
        gan_epochs=2,
        ema_decay=0.95,
        encoder_weights="none",
    ),
)


def load_config(out: str | Path) -> RunConfig:
    """The settings that a run folder was started with."""
    path = Path(out) / "config.json"
    if not path.is_file():
        raise ColorizeError(f"{path}: no run here; give the folder of one, or start it anew")
    try:
        return RunConfig.from_dict(json.loads(path.read_text()))
    except ColorizeError as error:  # a setting that this version does not know
        raise ColorizeError(f"{path}: {error}; another version wrote it") from error
    except (ValueError, TypeError) as error:
        raise ColorizeError(f"{path}: damaged settings; start again in a new folder") from error


def changed_settings(kept: RunConfig, wanted: RunConfig) -> list[str]:
    """Names of the settings that may not change when a run goes on, but would."""
    old, new = (
        {**c.pop("data"), **c.pop("train"), **c} for c in (kept.to_dict(), wanted.to_dict())
    )
    return changed(old, new)


def run_training(
    config: RunConfig,
    out: Path,
    resume: bool = False,
    callbacks: Sequence[Callable[[EpochReport], None]] = (),
) -> Photos:
    """Pretrain, train the GAN, measure, and fill the run folder `out`.

    Writes config.json, left_out.json, history.csv, curves.png, samples/, checkpoints/,
    pretrained/, generator/, metrics.json and grid.png.

    Args:
        callbacks: called after each epoch, when its pictures are written; see `Trainer`.

    Raises:
        ColorizeError: bad settings or data, another process trains in `out`, or `out` already
            holds a run and `resume` is false.
    """
    if not config.train.pretrain_epochs + config.train.gan_epochs:
        raise ColorizeError("nothing to train: --pretrain-epochs and --gan-epochs are both 0")
    config.train.check(config.data.size)
    process = process_state()
    if not process.is_main_process:
        return _run(config, out, resume, process, callbacks)
    _check_out(config.data.source, out)
    with only_run(out):
        _check_new(out, resume)
        return _run(config, out, resume, process, callbacks)


def _run(
    config: RunConfig,
    out: Path,
    resume: bool,
    process: PartialState,
    callbacks: Sequence[Callable[[EpochReport], None]],
) -> Photos:
    """What each of several processes does; only the main one writes."""
    photos = load_photos(config.data, config.train.seed)  # decoded by one of the processes
    process.print(printable(photos.summary()))
    networks = make_networks(config, resume)
    callbacks = [sample_saver(out), *callbacks]
    trainer = Trainer(config.train, photos, *networks, out, resume, callbacks)
    if process.is_main_process:
        left_out = {"grey": photos.grey, "unreadable": photos.unreadable}
        write_json(out / "left_out.json", left_out)
        write_json(out / "config.json", config.to_dict())
    process.print(f"training on {trainer.accelerator.device} in {trainer.precision}")
    trainer.pretrain()
    trainer.train_gan()
    if process.is_main_process:
        if metrics := evaluate_run(out, photos):
            print(table(metrics))
        save(run_grid(out, photos), out / "grid.png")
    return photos


def make_networks(config: RunConfig, resume: bool = False) -> tuple[Generator, nn.Module]:
    """G and D as a run begins with them; see `make_generator`."""
    generator = make_generator(config, resume)
    torch.manual_seed(config.train.seed + 1)  # whatever was drawn for G, D starts the same
    return generator, make_discriminator(config.train)


def make_generator(config: RunConfig, resume: bool = False) -> Generator:
    """A generator with the weights that the settings wish for; see `load_first_weights`.

    Args:
        resume: leave them out, as a resumed run reads its own from the checkpoint.
    """
    torch.manual_seed(config.train.seed)
    generator = Generator(
        encoder=config.encoder, working_size=config.data.size, hints=config.train.hints
    )
    if not resume:
        load_first_weights(generator, config.train)
        agree(str(generator.encoder.pretrained), "ImageNet weights")
    return generator


def evaluate_run(out: Path, photos: Photos) -> dict[str, dict[str, float]]:
    """Measure the weights of each stage on the held-out photos.

    Writes metrics.json, and beside each stage's weights a model card, unless somebody has changed
    the one that is there.
    """
    config = load_config(out)
    file = out / "metrics.json"
    measured = json.loads(file.read_text()) if file.is_file() else {}
    metrics: dict[str, Any] = {}
    for stage in ("pretrained", "generator"):
        if not (out / stage).is_dir():
            continue
        if len(photos.val):
            colorizer = Colorizer.from_pretrained(out / stage)
            predict = at_working_size(colorizer.generator)
            metrics[stage] = measure(predict, photos.val, device=colorizer.device, full=True)
        counts = (len(photos.train), len(photos.val), len(photos.grey))
        ours = [run_card(config, stage, counts, m.get(stage, {})) for m in (metrics, measured)]
        card = out / stage / CARD_NAME
        if not card.exists() or card.read_text() in (*ours, bare_card(config.data.size)):
            with write_whole(card) as temporary:
                temporary.write_text(ours[0])
    write_json(file, {"photos": len(photos.val), **metrics})
    return metrics


def run_grid(out: Path, photos: Photos, most: int = 8) -> Figure:
    """Photos that the network of a run folder was trained on, then photos it never saw."""
    shown = [(photos.train, "trained on"), (photos.val, "not seen in training")]
    batches, captions = [], []
    for photo_set, caption in shown:
        chosen = spread(len(photo_set), most)
        batches.append(photo_set.middle(chosen, photos.size))
        captions += [f"{Path(photo_set.names[row]).name}: {caption}" for row in chosen]
    colorizer = Colorizer.from_pretrained(out / "generator", smoothness=0)  # as trained
    return grid_of(colorizer, torch.cat(batches), captions)


def run_demo(out: Path) -> None:
    """Train on the built-in photos and colour one of them at full size.

    Also colour one that it has not seen, with the weights that come with this project.
    """
    photos = run_training(DEMO, out)
    source = next(path for path in builtin_photos() if path.name in photos.train.names)
    print(f"{out / 'grid.png'}: grey, coloured, truth, and which photos were trained on")
    told = f"{source.name}, which was trained on"
    _color_grey(source, out / "generator", out, "coloured.png", "grey.png", told)
    if weights := shipped_weights():
        source = ASSETS / "photos" / "dogs.jpg"
        told = f"{source.name}, by the weights that come with this project"
        _color_grey(source, weights, out, "shipped.png", "shipped-grey.png", told)


def _color_grey(source: Path, weights: Path, out: Path, new: str, old: str, told: str) -> None:
    """Make a photo grey, colour it, keep both, and tell."""
    grey = open_photo(source).convert("L")
    colored = Colorizer.from_pretrained(weights)(grey)
    for image, name in ((grey, old), (colored, new)):
        save_photo(image, out / name)
    size = f"{grey.width}x{grey.height}"
    print(f"{out / new}: {told}, coloured at its full size of {size} from {out / old}")


def _check_new(out: Path, resume: bool) -> None:
    """Refuse to begin anew where a run is."""
    if has_checkpoint(out) and not resume:
        raise ColorizeError(
            f"{out}: holds a run already; go on with it by `train --out {out} --resume`, or give "
            "another --out"
        )


def _check_out(source: str, out: Path) -> None:
    """Refuse a run folder that is not ours or lies among the photos."""
    if out.exists() and not out.is_dir():
        raise ColorizeError(f"{out}: is a file; give a folder for the run")
    # A run that stopped before its first checkpoint left left_out.json, and may start again.
    held = [path for path in out.glob("*") if not path.name.startswith(UNFINISHED)]
    if held and not (has_checkpoint(out) or (out / "left_out.json").exists()):
        raise ColorizeError(f"{out}: holds other files; give a new folder for the run")
    check_apart(source, out)


def check_apart(source: str, out: Path) -> None:
    """Refuse a run folder among the photos."""
    if source not in ("coco", "builtin") and real_path(Path(source)) in real_path(out).parents:
        raise ColorizeError(
            f"{out}: lies inside {source}, and pictures of the run would become photos to train "
            "on; give a folder elsewhere"
        )


def load_first_weights(generator: Generator, config: TrainConfig) -> None:
    """What a run starts from: a whole generator's weights, or an encoder's.

    Raises:
        ColorizeError: they cannot be had, or do not fit.
    """
    if config.start_weights is None:
        load_encoder_weights(generator, config.encoder_weights)
        return
    other = load_generator(config.start_weights)
    if other.hints and not generator.hints:
        raise ColorizeError(
            f"{config.start_weights}: knows colour hints; give --hints, HINTS in a notebook"
        )
    # What is missing without hints are the convolutions for them, which start at zero.
    state = generator.state_dict() if generator.hints and not other.hints else {}
    try:
        generator.load_state_dict(state | other.state_dict())
    except RuntimeError as error:
        told = "its decoder has other widths than a run's"
        if other.encoder.name != generator.encoder.name:
            told = f"its encoder is {other.encoder.name}; give --encoder {other.encoder.name}"
        raise ColorizeError(f"{config.start_weights}: {told}") from error


def load_encoder_weights(generator: Generator, wish: str) -> None:
    """ImageNet weights for the encoder: wanted, not wanted, or wanted if they can be had."""
    if wish == "none":
        return
    try:
        generator.encoder.load_imagenet()
    except ColorizeError as error:
        if wish == "imagenet":
            raise
        if not of_several() or process_state().is_main_process:
            say(f"{error}; going on without them")


def sample_saver(out: Path) -> Callable[[EpochReport], None]:
    """A callback that writes `samples/STAGE-EPOCH.png` and `curves.png` in a run folder."""

    def on_epoch(report: EpochReport) -> None:
        title = f"{report.stage}, epoch {report.epoch} of {report.epochs}: held-out photos"
        if len(report.L):
            figure = grid(report.L, report.ab_predicted, report.ab_true, title=title)
            save(figure, out / "samples" / f"{report.stage}-{report.epoch:03d}.png")
        save(curves(report.history), out / "curves.png")

    return on_epoch
