"""Runs in notebooks: settings that suit the machine, cells that go on, several GPUs."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import notebook_launcher
from accelerate.state import AcceleratorState
from torch import nn
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, record

from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.dataset import Photos, load_photos
from colorize.discriminator import make_discriminator
from colorize.generator import Generator
from colorize.notebook.estimate import STAGES
from colorize.notebook.explain import ambiguous
from colorize.notebook.views import live_view
from colorize.pretrained import load_generator, save_weights, shipped_weights
from colorize.run import (
    DEMO,
    changed_settings,
    check_apart,
    load_config,
    make_generator,
    run_training,
    sample_saver,
)
from colorize.system.device import has_gpu, suit_batch_size
from colorize.system.errors import ColorizeError
from colorize.system.files import write_json
from colorize.system.lock import only_run
from colorize.trainer import Trainer
from colorize.training.checkpoint import checkpoint_path, has_checkpoint, load_checkpoint
from colorize.weights.card import CARD_NAME


def make_config(data: DataConfig, train: TrainConfig, out: Path) -> RunConfig:
    """Settings of a run in `out`, with what they leave open filled in.

    A source of "auto" becomes COCO where there is a GPU, and the built-in photos elsewhere. A batch
    size of 0 becomes that of the run in `out`, or what suits the machine. A run on the few built-in
    photos is as in `colorize demo`: it shows many crops of each, and starts from scratch, which
    needs no network.
    """
    if data.source == "auto":
        data = replace(data, source="coco" if has_gpu() else "builtin")
    few = data.source == "builtin"
    if not train.batch_size:
        if has_checkpoint(out):
            size = load_config(out).train.batch_size
        else:
            size = DEMO.train.batch_size if few else suit_batch_size(data.size)
        train = replace(train, batch_size=size)
    if few:
        demo = DEMO.data
        data = replace(data, val_fraction=demo.val_fraction, crop_margin=demo.crop_margin)
        names = ("repeats", "ema_decay", "encoder_weights")
        train = replace(train, **{name: getattr(DEMO.train, name) for name in names})
    return RunConfig(data, train)


def open_run(config: RunConfig, out: Path) -> str:
    """Start a run folder, or go on with the one that is there.

    Returns:
        A line that says which.

    Raises:
        ColorizeError: the folder holds a run with other settings, or lies among the photos.
    """
    config.train.check(config.data.size)
    if not config.train.pretrain_epochs + config.train.gan_epochs:
        raise ColorizeError("nothing to train: PRETRAIN_EPOCHS and GAN_EPOCHS are both 0")
    check_apart(config.data.source, out)
    if not has_checkpoint(out):
        if _holds_shipped(out):
            raise ColorizeError(f"{out}: holds weights without training; give RUN a new name")
        with only_run(out):
            write_json(out / "config.json", config.to_dict())
        return f"a new run on {config.data.source} in {out}"
    kept = load_config(out)
    changed = changed_settings(kept, config)
    sources = {kept.data.source, config.data.source}
    if len(sources) > 1 and sources & {"coco", "builtin"}:  # a folder of photos may have moved
        changed = [f"DATA ({kept.data.source})"]
    if changed:
        raise ColorizeError(
            f"{out}: holds a run with another {', '.join(changed)}; give RUN a new name, or set it "
            "back to go on with that run"
        )
    return f"going on with the run on {kept.data.source} in {out}"


def ambiguous_run(out: Path, gan_epochs: int) -> tuple[RunConfig, Photos]:
    """Train on the built-in photos in their own and in opposite colours, shown as it goes.

    Minutes on a CPU; goes on where it was stopped. A small weight of L1 leaves the choice between
    the two to the GAN. Half of the time a photo shows some places' colours: hints.

    Returns:
        The settings, and the photos; see `explain.ambiguous`.
    """
    train = TrainConfig(
        batch_size=8,
        pretrain_epochs=2,
        gan_epochs=gan_epochs,
        lambda_l1=20.0,
        hints=True,
        hint_share=0.5,
    )
    config = make_config(DataConfig("builtin", size=96), train, out)
    config = replace(config, train=replace(config.train, repeats=config.train.repeats // 2))
    photos = ambiguous(load_photos(config.data, config.train.seed))
    print(open_run(config, out))
    generator = make_generator(config)
    view = live_view(out)
    discriminator = make_discriminator(config.train)
    job = (config.train, photos, generator, discriminator, out)
    for stage in STAGES:
        train_stage(stage, *job, view)
    return config, photos


def quick_run(out: Path) -> Path:
    """A finished run on the built-in photos, made now unless it is there: minutes on a CPU."""
    if not (out / "metrics.json").exists():
        run_training(DEMO, out, resume=has_checkpoint(out))
    return out


def use_shipped(config: RunConfig, out: Path) -> str:
    """Put the weights that come with this project into a new run folder, instead of training.

    Returns:
        A line that says so.

    Raises:
        ColorizeError: a notebook that is alone has none, or the folder holds something else.
    """
    generator = load_generator()
    if out.exists() and any(out.iterdir()) and not _holds_shipped(out):
        raise ColorizeError(f"{out}: is there already; to skip training give RUN a new name")
    write_json(out / "config.json", config.to_dict())
    save_weights(generator, out / "generator")
    return f"no training: {out / 'generator'} holds the weights that come with this project"


def _holds_shipped(out: Path) -> bool:
    shipped, card = shipped_weights(), out / "generator" / CARD_NAME
    if not shipped or not card.is_file():
        return False
    return card.read_bytes() == (shipped / CARD_NAME).read_bytes()


def weights_or_run(weights: str | Path, out: Path) -> str | Path:
    """Those given, else those that come along, else those of a `quick_run` in `out`."""
    return weights or shipped_weights() or quick_run(out) / "generator"


def train_stage(
    stage: str,
    config: TrainConfig,
    photos: Photos,
    generator: Generator,
    discriminator: nn.Module,
    out: Path,
    view: Callable[[], None] = lambda: None,
    gpus: int = 1,
) -> list[dict[str, Any]]:
    """Run a stage, or what is left of it, after a stop too.

    Args:
        stage: "pretrain" or "gan".
        out: run folder; see `Trainer`.
        view: called after each epoch, when the pictures in `out` are new.
        gpus: with more than one, as many processes train, and `view` is called at the end only.

    Returns:
        The history, a dict an epoch. `generator` then holds the averaged weights.

    Raises:
        ColorizeError: the user stopped it; memory and `out` hold the averaged weights so far. Or
            training failed, or several processes cannot be started.
    """
    stopped = ColorizeError(
        f"stopped: what was learnt is in {out / 'generator'}; this cell, run again, goes on from "
        "the last checkpoint"
    )
    if gpus > 1 and getattr(config, f"{stage}_epochs"):
        job = (stage, config, photos, generator, discriminator, out)
        try:
            _launch(job, gpus)
        except SignalException:
            raise stopped from None
        view()
        generator.load_state_dict(load_generator(out / "generator").state_dict())
        return load_checkpoint(checkpoint_path(out))["history"]
    callbacks = [sample_saver(out), lambda report: view()]
    trainer = Trainer(config, photos, generator, discriminator, out, has_checkpoint(out), callbacks)
    try:
        return trainer.pretrain() if stage == "pretrain" else trainer.train_gan()
    except KeyboardInterrupt:
        raise stopped from None


def _launch(job: tuple[Any, ...], gpus: int) -> None:
    """`train_stage(*job)` in as many processes as GPUs, forked from this one."""
    if gpus > torch.cuda.device_count():
        raise ColorizeError(f"GPUS = {gpus}, but this machine has {torch.cuda.device_count()}")
    if torch.cuda.is_initialized() or AcceleratorState._shared_state:
        raise ColorizeError(
            "this kernel has used a GPU itself, so no other process can take it over: restart the "
            "kernel and run the cells again; the run goes on"
        )
    try:
        notebook_launcher(record(_train_stage_in_child), job, num_processes=gpus)
    except ChildFailedError as error:
        reason = error.get_first_failure()[1].message
        reason = reason["message"] if isinstance(reason, dict) else reason
        raise ColorizeError(f"training failed: {reason}") from error


def _train_stage_in_child(*job: Any) -> None:
    """`train_stage`, stopped as it is in a cell: what was learnt is saved first.

    The launcher has put its own handlers into its children, and asks them to end once more.
    """

    def stop(*_: Any) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    train_stage(*job)
