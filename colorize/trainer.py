"""The Trainer: repeats the steps over the photos, measures, saves and reports each epoch.

From the outside in: a run's two stages, a stage's epochs, an epoch's steps; what they use is below.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import DataLoaderConfiguration, gather_object
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from colorize.config import MAY_CHANGE, TrainConfig, changed
from colorize.dataset import Batches, Photos, spread, to_network
from colorize.evaluate import means, measure_each
from colorize.generator import Generator
from colorize.losses import FeatureLoss, gradient_penalty
from colorize.pretrained import save_weights
from colorize.steps import gan_step, pretrain_step
from colorize.system.errors import ColorizeError, first_line
from colorize.system.files import write_csv
from colorize.system.lock import only_run
from colorize.system.progress import bar, say
from colorize.training.batchnorm import synchronize
from colorize.training.checkpoint import (
    checkpoint_path,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from colorize.training.health import (
    NotANumber,
    check_finite,
    collapse,
    likely_cause,
    not_finite,
    notes,
)
from colorize.training.memory import Accumulation, Losses, is_out_of_memory
from colorize.training.optimizers import (
    gan_optimizer,
    late_decay,
    one_cycle,
    pretrain_optimizer,
    weight_average,
)
from colorize.training.precision import pick_precision

_SAVED = {"stage", "epoch", "done", "precision", "photos", "history", "parts"}  # in a checkpoint
SAMPLES = 8  # held-out photos in the grid of each epoch
_LOOK = 10  # steps between two looks at the losses, which wait for the device


class Trainer:
    """Pretrains a generator with L1, then trains it against a discriminator.

    Both networks are changed in place; after each stage `generator` holds its averaged weights.

    Args:
        config: learning rates, epochs and so on.
        photos: see `dataset.load_photos`.
        generator, discriminator: the networks; D is needed for `train_gan` only.
        out: a run folder. Each epoch writes `history.csv`, `checkpoints/` (the last two; long
            epochs more often) and the averaged weights, `generator/`; `pretrained/` keeps those of
            the first stage, `epochs/` those of each epoch if wished. None keeps all in memory.
        resume: go on from `out`'s checkpoint, with the same settings, photos and networks.
        callbacks: each is called with an `EpochReport` after every epoch.
        progress: show a bar a epoch.

    Raises:
        ColorizeError: settings that do not go together; `out` holds a run and `resume` is false, or
            it cannot go on with these.
    """

    def __init__(
        self,
        config: TrainConfig,
        photos: Photos,
        generator: Generator,
        discriminator: nn.Module | None = None,
        out: str | Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Callable[[EpochReport], None]] = (),
        progress: bool = True,
    ) -> None:
        out = Path(out) if out else None
        self.config, self.photos, self.out = config, photos, out
        self.callbacks, self.progress, self.saved_at = callbacks, progress, time.monotonic()
        if resume and out is None:
            raise ColorizeError("resume needs a run folder: Trainer(..., out=FOLDER)")
        if generator.hints != config.hints:
            which = "the settings do" if config.hints else "the generator does"
            raise ColorizeError(f"hints: {which}, the other not; make both TrainConfig(hints=...)")
        config.check(photos.size)
        norms = [type(part) for part in (discriminator or nn.Identity()).modules()]
        if config.objective == "wgan-gp" and nn.BatchNorm2d in norms:
            raise ColorizeError(
                "wgan-gp punishes the gradient of each photo alone, and this D has batch norm"
            )
        if out and not resume and has_checkpoint(out):
            raise ColorizeError(f"{out}: holds a run; Trainer(..., resume=True) goes on with it")
        self.checkpoint = checkpoint_path(out) if out else None
        self.saved = load_checkpoint(self.checkpoint, _SAVED) if resume else {}
        if self.saved and not photos.match(self.saved["photos"]):
            raise ColorizeError(f"{out}: the photos, and so the split, have changed; start anew")
        now = _settings(config, self.saved.get("stage", "pretrain"))
        if others := changed(self.saved.get("settings", {}), now):
            raise ColorizeError(f"{out}: began with another {', '.join(others)}; set it back")
        self.history: list[dict[str, Any]] = self.saved.get("history", [])
        # A resumed run keeps its precision: a measured choice could fall the other way today.
        self.precision = pick_precision(self.saved.get("precision", config.precision))
        # Accelerate's settings are global to the process, and a notebook makes many trainers.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision="no" if self.precision == "fp32" else self.precision,
            dataloader_config=DataLoaderConfiguration(non_blocking=torch.cuda.is_available()),
            # DDP would overwrite D's between its looks at true and at false colours.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        processes = self.saved.get("processes", self.accelerator.num_processes)
        if processes != self.accelerator.num_processes:  # the schedules count steps
            raise ColorizeError(f"{out}: go on with {processes} processes (GPUS), as it began")
        self.batches = Batches(self.accelerator, photos, config)
        self.generator, self.discriminator = generator, discriminator
        # Now, not after hours of L1: its network may be out of reach.
        looks = config.gan_epochs and config.lambda_features
        self.feature_loss = FeatureLoss().to(memory_format=torch.channels_last) if looks else None
        named = {"generator": generator, "discriminator": discriminator}
        self.networks = {name: network for name, network in named.items() if network is not None}
        for network in self.networks.values():
            network.to(self.accelerator.device, memory_format=torch.channels_last)
            if self.accelerator.num_processes > 1:
                synchronize(network)
        self.averaged = weight_average(generator, config.ema_decay)

    def pretrain(self) -> list[dict[str, Any]]:
        """Train the generator alone, with L1. Returns the history, a dict an epoch."""
        if self.saved.get("stage") == "gan" or not self.config.pretrain_epochs:
            return self.history
        self._fit(self.pretrain_stage())
        self._save_weights("pretrained")
        return self.history

    def train_gan(self) -> list[dict[str, Any]]:
        """Train both networks against each other. Returns the history, a dict an epoch."""
        if not self.config.gan_epochs:
            return self.history
        self._fit(self.gan_stage())
        return self.history

    def _fit(self, stage: Stage) -> None:
        """Repeat the stage's step over the photos; measure, save and report each epoch."""
        writes = self.out and self.accelerator.is_main_process
        with only_run(self.out) if writes else nullcontext():
            start, done = self._restore(stage)
            try:
                for epoch in range(start, stage.epochs):
                    done = self._train_epoch(stage, epoch, done)
                    self.history.append(self._row(stage, epoch + 1, done))
                    self._save(stage, epoch + 1, done := Progress())
                    self._report(stage, epoch + 1)
            except KeyboardInterrupt:
                # What the unfinished epoch gave; the checkpoint is older.
                if self.averaged.n_averaged and not any(not_finite(self.averaged.state_dict())):
                    self._save_weights()
                raise
            finally:
                self.accelerator.free_memory()
                self.generator.requires_grad_(True)
                self.generator.load_state_dict(self.averaged.module.state_dict())

    def _train_epoch(self, stage: Stage, epoch: int, done: Progress) -> Progress:
        """One pass over the training photos, or what is left of it."""
        batches = self.batches.epoch(epoch_seed(self.config.seed, stage.name, epoch), done.steps)
        show = self.progress and self.accelerator.is_main_process
        self.generator.train()
        if stage.frozen_encoder:
            self.generator.encoder.eval()

        def after_step(done: Progress) -> None:
            if time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes:
                self._save(stage, epoch, done)

        try:
            return run_epoch(stage, epoch, batches, len(self.batches), show, done, after_step)
        except NotANumber as error:
            cause = likely_cause(stage.name, self.config, self.networks, self.precision)
            raise ColorizeError(f"{error}: {cause}; checkpoints are from before") from error

    def pretrain_stage(self) -> Stage:
        """L1 for the generator alone."""
        steps = self.config.pretrain_epochs * len(self.batches)
        bare = pretrain_optimizer(self.generator, self.config)
        schedule = one_cycle(bare, steps)  # first: with fp16 Accelerate wraps what that has wrapped
        network, optimizer = self.accelerator.prepare(_Shell(self.generator), bare)
        accumulate = Accumulation(may_split=self.accelerator.num_processes == 1)

        def step(L: Tensor, ab: Tensor, hints: Tensor | None = None) -> Losses:
            backward = self.accelerator.backward
            losses = pretrain_step(network, optimizer, L, ab, backward, accumulate, hints)
            self.averaged.update_parameters(self.generator)
            return losses

        parts = {"g_optimizer": optimizer}
        epochs = self.config.pretrain_epochs
        return Stage("pretrain", epochs, step, [schedule], parts, accumulate)

    def gan_stage(self) -> Stage:
        """GAN loss and L1 for the generator, GAN loss for the discriminator."""
        if self.discriminator is None:
            raise ColorizeError("train_gan needs a discriminator: Trainer(..., PatchGAN())")
        config, backward = self.config, self.accelerator.backward
        if config.freeze_encoder:
            self.generator.encoder.requires_grad_(False)
        pair = (self.generator, self.discriminator)
        bare = [gan_optimizer(network, config) for network in pair]
        steps = config.gan_epochs * len(self.batches)
        schedules = [late_decay(optimizer, steps) for optimizer in bare]
        networks = self.accelerator.prepare(*map(_Shell, pair), *bare)
        _, _, g_optimizer, d_optimizer = networks
        accumulate = Accumulation(may_split=self.accelerator.num_processes == 1)
        options: dict[str, Any] = {"objective": config.objective, "lambda_l1": config.lambda_l1}
        if config.objective == "wgan-gp":  # of the bare network, outside of autocast
            options["penalty"] = partial(gradient_penalty, self.discriminator)
            options["lambda_penalty"] = config.lambda_penalty
        if self.feature_loss:
            network = _Shell(self.feature_loss)  # has nothing that the processes could share
            options["features"] = self.accelerator.prepare_model(network, evaluation_mode=True)
            options["lambda_features"] = config.lambda_features
        d_first = round(config.discriminator_first * len(self.batches))
        if d_first:  # without gradients nothing happens, but torch warns if schedules step first
            self.generator.zero_grad()
            g_optimizer.optimizer.step()

        def step(L: Tensor, ab: Tensor, hints: Tensor | None = None) -> Losses:
            options["d_alone"] = schedules[0].last_epoch < d_first  # the schedule counts steps
            losses = gan_step(*networks, L, ab, backward, accumulate, hints=hints, **options)
            self.averaged.update_parameters(self.generator)
            return losses

        parts = {
            "g_optimizer": g_optimizer,
            "d_optimizer": d_optimizer,
            "discriminator": self.discriminator,
        }
        frozen = config.freeze_encoder
        return Stage("gan", config.gan_epochs, step, schedules, parts, accumulate, d_first, frozen)

    def validate(self) -> dict[str, float]:
        """Measure the averaged generator on the held-out photos; see `evaluate.measure`."""
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        photos = self.photos.val.part(process, processes)
        batch_size, device = self.config.batch_size, self.accelerator.device
        rows = measure_each(self.predict, photos, batch_size, device)
        rows = gather_object(rows) if processes > 1 else rows
        return {f"val_{name}": value for name, value in means(rows).items()}

    @torch.no_grad()
    def predict(self, L: Tensor) -> Tensor:
        """The averaged generator's ab (B, 2, H, W) for L (B, 1, H, W), both scaled."""
        self.averaged.eval()
        with self.accelerator.autocast():
            return self.averaged(L).float()

    def _row(self, stage: Stage, epoch: int, done: Progress) -> dict[str, Any]:
        """The line of an epoch in the history."""
        row = {"stage": stage.name, "epoch": epoch} | done.row(self.accelerator) | self.validate()
        if warning := collapse(row, self.history, self.config.objective):
            row["warning"] = warning
        for note in notes(row) if self.accelerator.is_main_process else ():
            say(note)
        return row

    def _report(self, stage: Stage, epoch: int) -> None:
        if not self.accelerator.is_main_process:
            return
        side = self.photos.size
        tensors = tuple(torch.empty(0, channels, side, side) for channels in (1, 2, 2))
        if len(self.photos.val):
            chosen = spread(len(self.photos.val), SAMPLES)
            L, ab = to_network(self.photos.val.__getitems__(chosen).to(self.accelerator.device))
            tensors = (L.cpu(), self.predict(L).cpu(), ab.cpu())
        for callback in self.callbacks:
            callback(EpochReport(stage.name, epoch, stage.epochs, self.history, *tensors))

    def _save(self, stage: Stage, epoch: int, done: Progress) -> None:
        """Write a checkpoint, and after a whole epoch its weights and the history."""
        self.saved_at = time.monotonic()
        parts = {name: part.state_dict() for name, part in self._parts(stage).items()}
        when = f"{stage.name}, after epoch {epoch} and {done.steps} steps"
        check_finite(parts | {"loss": done.totals}, when)
        if not done.steps or (self.out and not (self.out / "generator").is_dir()):
            self._save_weights()
        if not done.steps and self.config.keep_epochs:
            self._save_weights(f"epochs/{stage.name}-{epoch:02}")
        if self.checkpoint and self.accelerator.is_main_process:
            if not done.steps:
                write_csv(self.out / "history.csv", self.history)
            # Last: if the run stops before this is done, the epoch is repeated, files and all.
            state = {
                "stage": stage.name,
                "epoch": epoch,
                "done": vars(done),
                "precision": self.precision,
                "processes": self.accelerator.num_processes,
                "photos": self.photos.fingerprint(),
                "settings": _settings(self.config, stage.name),
                "history": self.history,
                "parts": parts,
                "batch_parts": stage.accumulate.parts,
            }
            save_checkpoint(self.checkpoint, state)

    def _save_weights(self, name: str = "generator") -> None:
        if self.out and self.accelerator.is_main_process:
            save_weights(self.averaged.module, self.out / name)

    def _restore(self, stage: Stage) -> tuple[int, Progress]:
        """Load what was saved; gives how many epochs of this stage are done, and of the next."""
        saved, self.saved = self.saved, {}
        if not saved:
            return 0, Progress()
        if saved["stage"] != stage.name:  # stopped between the stages: only the average goes on
            self.averaged.load_state_dict(saved["parts"]["averaged"])
            self.generator.load_state_dict(self.averaged.module.state_dict())
            return 0, Progress()
        try:
            for name, part in self._parts(stage).items():
                part.load_state_dict(saved["parts"][name])
        except (RuntimeError, ValueError, KeyError) as error:
            if is_out_of_memory(error):
                raise
            told = f"its checkpoint is of other networks ({first_line(error)})"
            raise ColorizeError(f"{self.out}: {told}; build them as they were") from error
        # Batch norm would see other photos together.
        stage.accumulate.parts = saved.get("batch_parts", 1)
        done = Progress(**saved["done"])
        if self.accelerator.is_main_process and saved["epoch"] < stage.epochs:
            say(
                f"going on after {stage.name} epoch {saved['epoch']}, step {done.steps} of the next"
            )
        return saved["epoch"], done

    def _parts(self, stage: Stage) -> dict[str, Any]:
        """All that has a state, by name."""
        scaler = {"scaler": self.accelerator.scaler} if self.accelerator.scaler else {}
        schedules = {f"schedule_{i}": s for i, s in enumerate(stage.schedules)}
        networks = {"generator": self.generator, "averaged": self.averaged}
        return networks | stage.parts | schedules | scaler


def photos_per_second(
    config: TrainConfig,
    photos: Photos,
    generator: Generator,
    discriminator: nn.Module,
    stage: str,
    batches: int = 8,
) -> float:
    """The speed of one stage, "pretrain" or "gan", loader included, from a few steps of it.

    The networks given stay as they are.
    """
    nothing = replace(photos.val, rows=photos.val.rows[:0])
    # Two epochs, as the first pays for what a device sets up once.
    epochs = {"pretrain_epochs": 0, "gan_epochs": 0, f"{stage}_epochs": 2}
    few = {"epoch_photos": batches * config.batch_size, "discriminator_first": 0.0}
    trainer = Trainer(
        replace(config, **epochs, **few),
        replace(photos, val=nothing),
        deepcopy(generator),
        deepcopy(discriminator),
        progress=False,
    )
    trainer.pretrain()
    return trainer.train_gan()[-1]["photos_per_second"]


class _Shell(nn.Module):
    """A network in a module of its own, for Accelerate to mark and to rewire.

    The mark on a prepared module outlives `unwrap_model`, and what bears it is not prepared again:
    the next stage would train without autocast, and the same stage of a resumed run with it.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.network(*inputs)


def run_epoch(
    stage: Stage,
    epoch: int,
    batches: Iterable[tuple[Tensor, ...]],
    steps: int,
    show: bool,
    done: Progress | None = None,
    after_step: Callable[[Progress], None] = lambda done: None,
) -> Progress:
    """Take a step a batch.

    Args:
        epoch: from 0.
        batches: scaled L (B, 1, H, W) and ab (B, 2, H, W); hints (B, 3, H, W) if wanted.
        steps: how many there are in a whole epoch, for the progress bar.
        show: whether to draw the bar.
        done: what an earlier process did of this epoch; `batches` are those that are left.
        after_step: called after each step.

    Raises:
        NotANumber: a loss is NaN or infinite.
        ColorizeError: the device is out of memory.
    """
    name = f"{stage.name} {epoch + 1}/{stage.epochs}"
    done = done or Progress()
    if not done.steps:
        done.before = stage.steps_taken() or 0
    started = time.perf_counter() - done.seconds
    with bar(batches, name, steps, unit="batch", show=show, initial=done.steps) as shown:
        for batch in shown:
            losses = stage.step(*batch)
            for schedule in stage.schedules:
                schedule.step()
            done.add(losses, len(batch[0]))
            done.seconds = time.perf_counter() - started
            if done.steps % _LOOK == 0:
                done.check(name)
                values = {key: f"{loss.item():.4f}" for key, loss in losses.items()}
                speed = f"{done.photos / done.seconds:.1f}"
                shown.set_postfix(values | {"photos/s": speed}, refresh=False)
            after_step(done)
    done.check(name)  # and so waits for the device
    if (taken := stage.steps_taken()) is not None:
        done.skipped = done.steps - (taken - done.before)
    done.seconds = time.perf_counter() - started
    return done


def _settings(config: TrainConfig, stage: str) -> dict[str, Any]:
    """What has to stay when a run goes on.

    Where its weights came from no longer counts; nor do the GAN's settings, until it has begun.
    """
    open_ones = [*MAY_CHANGE, "start_weights", "encoder_weights"]
    if stage == "pretrain":
        open_ones += ["gan_", "lambda_", "objective", "discriminator", "freeze_encoder"]
    return {k: v for k, v in asdict(config).items() if not k.startswith(tuple(open_ones))}


def epoch_seed(seed: int, stage: str, epoch: int) -> int:
    """What decides the order, crops and gammas of an epoch, which is counted from 0.

    Nothing that ran before matters: a resumed run sees what an unbroken one sees.
    """
    return seed * 2_000_003 + epoch + (1_000_000 if stage == "gan" else 0)


@dataclass
class Stage:
    """What distinguishes pretraining from GAN training."""

    name: str  # "pretrain" or "gan"
    epochs: int
    step: Callable[..., Losses]  # scaled L and ab of a batch, hints if it has some, to its losses
    schedules: list[LRScheduler]
    parts: dict[str, Any]  # what a checkpoint must hold beside the generator
    accumulate: Accumulation = field(default_factory=Accumulation)  # what `step` uses
    d_first: int = 0  # steps in which D learns alone
    frozen_encoder: bool = False

    def steps_taken(self) -> int | None:
        """By the optimizer that has taken the fewest; None if they do not count.

        A fused one passes over bad gradients itself, which nobody else is told. Steps that G had to
        stand still in count as taken.
        """
        taken = []
        for name, part in self.parts.items():
            state = next(iter(part.state.values()), {}) if isinstance(part, Optimizer) else {}
            if "step" in state:
                taken.append(int(state["step"]) + (name == "g_optimizer") * self.d_first)
        return min(taken, default=None)


@dataclass
class Progress:
    """How far an epoch is; a checkpoint in its middle keeps it."""

    steps: int = 0
    photos: int = 0
    before: int = 0  # steps that the optimizers had taken when the epoch began
    skipped: int = 0  # steps that they did not take, as fp16 gave no usable gradients
    seconds: float = 0.0
    totals: Losses = field(default_factory=dict)  # sums of the losses
    good: Tensor | int = 0  # steps after which all of them were numbers

    def add(self, losses: Losses, photos: int) -> None:
        """Count a step, without waiting for the device."""
        self.totals = {name: self.totals.get(name, 0.0) + loss for name, loss in losses.items()}
        self.good = self.good + torch.stack(list(self.totals.values())).isfinite().all()
        self.steps += 1
        self.photos += photos

    def row(self, accelerator: Accelerator) -> dict[str, float]:
        """Mean losses over the photos of all processes, seconds and speed."""
        losses = torch.stack(list(self.totals.values())).to(accelerator.device) / self.steps
        losses = accelerator.reduce(losses, "mean").tolist()
        row = {name: round(loss, 6) for name, loss in zip(self.totals, losses, strict=True)}
        row["seconds"] = round(self.seconds, 2)
        photos = self.photos * accelerator.num_processes
        row["photos_per_second"] = round(photos / self.seconds, 2)
        return row | ({"skipped_steps": self.skipped} if self.skipped else {})

    def check(self, name: str) -> None:
        """Raises NotANumber if one of the losses was NaN or infinite."""
        if int(self.good) < self.steps:
            bad = [loss for loss, total in self.totals.items() if not total.isfinite()]
            raise NotANumber(f"{name}, step {int(self.good) + 1}: {', '.join(bad)} is not a number")


@dataclass
class EpochReport:
    """What a callback gets after each epoch.

    Tensors are on the CPU, of up to eight held-out photos; empty without any.
    """

    stage: str  # "pretrain" or "gan"
    epoch: int  # from 1
    epochs: int
    history: list[dict[str, Any]]  # a row an epoch, this one last
    L: Tensor  # (n, 1, size, size), scaled
    ab_predicted: Tensor  # (n, 2, size, size), by the averaged generator
    ab_true: Tensor
