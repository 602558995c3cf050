"""The Trainer: repeats the steps over the photos, measures, saves and reports each epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import Tensor, nn

from colorize.batches import Batches
from colorize.batchnorm import synchronize
from colorize.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint, save_weights
from colorize.config import TrainConfig
from colorize.data import Photos, spread, to_network
from colorize.epoch import EpochReport, Progress, Stage, epoch_seed, run_epoch
from colorize.errors import ColorizeError
from colorize.evaluate import means, measure_each
from colorize.files import write_csv
from colorize.generator import Generator
from colorize.health import NotANumber, check_finite, collapse, likely_cause, not_finite, notes
from colorize.lock import only_run
from colorize.optimizers import weight_average
from colorize.precision import pick_precision
from colorize.progress import say
from colorize.stages import gan_stage, pretrain_stage

_SAVED = {"stage", "epoch", "done", "precision", "photos", "history", "parts"}  # in a checkpoint
SAMPLES = 8  # held-out photos in the grid of each epoch


class Trainer:
    """Pretrains a generator with L1, then trains it against a discriminator.

    Both networks are changed in place; after each stage `generator` holds its averaged weights.

    Args:
        config: learning rates, epochs and so on.
        photos: see `data.load_photos`.
        generator, discriminator: the networks; D is needed for `train_gan` only.
        out: a run folder. Each epoch writes `history.csv`, `checkpoints/` (the last two; long
            epochs more often) and the averaged weights, `generator/`; `pretrained/` keeps those of
            the first stage, `epochs/` those of each epoch if wished. None keeps all in memory.
        resume: go on from `out`'s checkpoint.
        callbacks: each is called with an `EpochReport` after every epoch.
        progress: show a bar a epoch.
    """

    def __init__(
        self,
        config: TrainConfig,
        photos: Photos,
        generator: Generator,
        discriminator: nn.Module | None = None,
        out: Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Callable[[EpochReport], None]] = (),
        progress: bool = True,
    ) -> None:
        self.config, self.photos, self.out = config, photos, out
        self.callbacks, self.progress, self.saved_at = callbacks, progress, time.monotonic()
        if resume and out is None:
            raise ColorizeError("resume needs a run folder: Trainer(..., out=FOLDER)")
        self.checkpoint = checkpoint_path(out) if out else None
        self.saved = load_checkpoint(self.checkpoint, _SAVED) if resume else {}
        if self.saved and not photos.match(self.saved["photos"]):
            raise ColorizeError(f"{out}: the photos, and so the split, have changed; start anew")
        self.history: list[dict[str, Any]] = self.saved.get("history", [])
        # A resumed run keeps its precision: a measured choice could fall the other way today.
        self.precision = pick_precision(self.saved.get("precision", config.precision))
        # Accelerate's settings are global to the process, and a notebook makes many trainers.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision="no" if self.precision == "fp32" else self.precision,
            # DDP would overwrite D's between its looks at true and at false colours.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        processes = self.saved.get("processes", self.accelerator.num_processes)
        if processes != self.accelerator.num_processes:  # the schedules count steps
            raise ColorizeError(f"{out}: go on with {processes} processes (GPUS), as it began")
        self.batches = Batches(self.accelerator, photos, config)
        self.generator, self.discriminator = generator, discriminator
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

    def pretrain_stage(self) -> Stage:
        """What `pretrain` repeats, ready to run; see `stages.pretrain_stage`."""
        networks = (self.generator, self.averaged)
        return pretrain_stage(self.accelerator, self.config, *networks, len(self.batches))

    def gan_stage(self) -> Stage:
        """What `train_gan` repeats, ready to run; see `stages.gan_stage`."""
        if self.discriminator is None:
            raise ColorizeError("train_gan needs a discriminator: Trainer(..., PatchGAN())")
        networks = (self.generator, self.discriminator, self.averaged)
        return gan_stage(self.accelerator, self.config, *networks, len(self.batches))

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
                # Undo what Accelerate did to `forward`, also when the user stops the run.
                for network in self.networks.values():
                    self.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
                self.accelerator.free_memory()
                self.generator.load_state_dict(self.averaged.module.state_dict())

    def _train_epoch(self, stage: Stage, epoch: int, done: Progress) -> Progress:
        """One pass over the training photos, or what is left of it."""
        batches = self.batches.epoch(epoch_seed(self.config.seed, stage.name, epoch), done.steps)
        show = self.progress and self.accelerator.is_main_process
        self.generator.train()

        def after_step(done: Progress) -> None:
            if time.monotonic() - self.saved_at > 60 * self.config.checkpoint_minutes:
                self._save(stage, epoch, done)

        try:
            return run_epoch(stage, epoch, batches, len(self.batches), show, done, after_step)
        except NotANumber as error:
            cause = likely_cause(stage.name, self.config, self.networks, self.precision)
            raise ColorizeError(f"{error}: {cause}; checkpoints are from before") from error

    def _row(self, stage: Stage, epoch: int, done: Progress) -> dict[str, Any]:
        """The line of an epoch in the history."""
        row = {"stage": stage.name, "epoch": epoch} | done.row(self.accelerator) | self.validate()
        if warning := collapse(row, self.history, self.config.objective):
            row["warning"] = warning
        for note in notes(row) if self.accelerator.is_main_process else ():
            say(note)
        return row

    def _report(self, stage: Stage, epoch: int) -> None:
        if not self.accelerator.is_main_process or not len(self.photos.val):
            return
        chosen = spread(len(self.photos.val), SAMPLES)
        L, ab = to_network(self.photos.val.__getitems__(chosen).to(self.accelerator.device))
        tensors = (L.cpu(), self.predict(L).cpu(), ab.cpu())
        for callback in self.callbacks:
            callback(EpochReport(stage.name, epoch, stage.epochs, self.history, *tensors))

    def _parts(self, stage: Stage) -> dict[str, Any]:
        """All that has a state, by name."""
        scaler = {"scaler": self.accelerator.scaler} if self.accelerator.scaler else {}
        schedules = {f"schedule_{i}": s for i, s in enumerate(stage.schedules)}
        networks = {"generator": self.generator, "averaged": self.averaged}
        return networks | stage.parts | schedules | scaler

    def _save_weights(self, name: str = "generator") -> None:
        if self.out and self.accelerator.is_main_process:
            save_weights(self.averaged.module, self.out / name)

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
                "history": self.history,
                "parts": parts,
            }
            save_checkpoint(self.checkpoint, state)

    def _restore(self, stage: Stage) -> tuple[int, Progress]:
        """Load what was saved; gives how many epochs of this stage are done, and of the next."""
        saved, self.saved = self.saved, {}
        if not saved:
            return 0, Progress()
        if saved["stage"] != stage.name:  # stopped between the stages: only the average goes on
            self.averaged.load_state_dict(saved["parts"]["averaged"])
            self.generator.load_state_dict(self.averaged.module.state_dict())
            return 0, Progress()
        for name, part in self._parts(stage).items():
            part.load_state_dict(saved["parts"][name])
        done = Progress(**saved["done"])
        if self.accelerator.is_main_process and saved["epoch"] < stage.epochs:
            say(
                f"going on after {stage.name} epoch {saved['epoch']}, step {done.steps} of the next"
            )
        return saved["epoch"], done
