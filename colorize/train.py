"""The Trainer: repeats the steps over the photos, measures, saves and reports each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import DataLoader

from colorize.checkpoint import (
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
    save_weights,
    write_csv,
)
from colorize.config import TrainConfig
from colorize.data import Photos, random_crop_flip, spread, to_network, train_loader
from colorize.epoch import EpochReport, Stage, epoch_seed, run_epoch
from colorize.errors import ColorizeError
from colorize.evaluate import measure
from colorize.generator import Generator
from colorize.optimizers import weight_average
from colorize.precision import pick_precision
from colorize.stages import gan_stage, pretrain_stage

_SAVED = {"stage", "epoch", "precision", "photos", "history", "parts"}  # keys of a checkpoint
SAMPLES = 8  # held-out photos in the grid of each epoch


class Trainer:
    """Pretrains a generator with L1, then trains it against a discriminator.

    Both networks are changed in place; after each stage `generator` holds its averaged weights.

    Args:
        config: learning rates, epochs and so on.
        photos: see `data.load_photos`.
        generator, discriminator: the networks; D is needed for `train_gan` only.
        out: a run folder. Each epoch writes `history.csv`, `checkpoints/` (the last two) and the
            averaged weights, `generator/`; `pretrained/` keeps those of the first stage. None keeps
            everything in memory.
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
        self.callbacks, self.progress = callbacks, progress
        if resume and out is None:
            raise ColorizeError("resume needs a run folder: Trainer(..., out=FOLDER)")
        self.checkpoint = checkpoint_path(out) if out else None
        self.saved = load_checkpoint(self.checkpoint, _SAVED) if resume else {}
        if self.saved and not photos.match(self.saved["photos"]):
            raise ColorizeError(f"{out}: the photos, and so the split, have changed; start anew")
        self.history: list[dict[str, Any]] = self.saved.get("history", [])
        # A resumed run keeps its precision: a measured choice could fall the other way today.
        self.precision = pick_precision(self.saved.get("precision", config.precision))
        if min(config.batch_size, len(photos.train) * config.repeats) == 1 and photos.size == 32:
            raise ColorizeError("batch norm needs a batch of 2 or more, or photos larger than 32")
        # Accelerate's settings are global to the process, and a notebook makes many trainers.
        AcceleratorState._reset_state()
        self.accelerator = Accelerator(
            mixed_precision="no" if self.precision == "fp32" else self.precision,
            # Each process keeps its own batch-norm statistics: DDP would else overwrite D's
            # between its looks at true and at false colours, while both still need them.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        processes = self.saved.get("processes", self.accelerator.num_processes)
        if processes != self.accelerator.num_processes:  # the schedules count steps
            raise ColorizeError(
                f"{out}: was trained by {processes} processes (GPUS); go on with as many"
            )
        device = self.accelerator.device
        self.generator = generator.to(device, memory_format=torch.channels_last)
        self.discriminator = discriminator
        if discriminator is not None:
            discriminator.to(device, memory_format=torch.channels_last)
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
        steps = self._steps_per_epoch()
        return pretrain_stage(self.accelerator, self.config, self.generator, self.averaged, steps)

    def gan_stage(self) -> Stage:
        """What `train_gan` repeats, ready to run; see `stages.gan_stage`."""
        if self.discriminator is None:
            raise ColorizeError("train_gan needs a discriminator: Trainer(..., PatchGAN())")
        networks = (self.generator, self.discriminator, self.averaged)
        return gan_stage(self.accelerator, self.config, *networks, self._steps_per_epoch())

    def batches(self, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """An epoch's batches on the device: L (B, 1, H, W) and ab (B, 2, H, W), both scaled."""
        crops = torch.Generator().manual_seed(seed)
        for rgb in self._loader(seed):
            yield to_network(random_crop_flip(rgb, self.photos.size, crops))

    def validate(self) -> dict[str, float]:
        """Measure the averaged generator on the held-out photos; see `evaluate.measure`."""
        device, batch_size = self.accelerator.device, self.config.batch_size
        means = measure(self.predict, self.photos.val, batch_size, device)
        return {f"val_{name}": value for name, value in means.items()}

    @torch.no_grad()
    def predict(self, L: Tensor) -> Tensor:
        """The averaged generator's ab (B, 2, H, W) for L (B, 1, H, W), both scaled."""
        self.averaged.eval()
        with self.accelerator.autocast():
            return self.averaged(L).float()

    def _fit(self, stage: Stage) -> None:
        """Repeat the stage's step over the photos; measure, save and report each epoch."""
        start = self._restore(stage)
        try:
            for epoch in range(start, stage.epochs):
                row = self._train_epoch(stage, epoch) | self.validate()
                self.history.append({"stage": stage.name, "epoch": epoch + 1, **row})
                self._save(stage, epoch + 1)
                self._report(stage, epoch + 1)
        except KeyboardInterrupt:
            self._save_weights()  # what the unfinished epoch gave; the checkpoint is from before
            raise
        finally:
            # Undo what Accelerate did to `forward`, also when the user stops the run.
            for network in (self.generator, self.discriminator):
                if network is not None:
                    self.accelerator.unwrap_model(network, keep_fp32_wrapper=False)
            self.accelerator.free_memory()
            self.generator.load_state_dict(self.averaged.module.state_dict())

    def _train_epoch(self, stage: Stage, epoch: int) -> dict[str, float]:
        """One pass over the training photos; gives the mean losses and the speed."""
        batches = self.batches(epoch_seed(self.config.seed, stage.name, epoch))
        self.generator.train()
        show = self.progress and self.accelerator.is_main_process
        return run_epoch(stage, epoch, batches, self._steps_per_epoch(), show)

    def _report(self, stage: Stage, epoch: int) -> None:
        if not self.accelerator.is_main_process or not len(self.photos.val):
            return
        chosen = spread(len(self.photos.val), SAMPLES)
        L, ab = to_network(self.photos.val.__getitems__(chosen).to(self.accelerator.device))
        tensors = (L.cpu(), self.predict(L).cpu(), ab.cpu())
        for callback in self.callbacks:
            callback(EpochReport(stage.name, epoch, stage.epochs, self.history, *tensors))

    def _loader(self, seed: int) -> DataLoader:
        config = self.config
        loader = train_loader(self.photos.train, config.batch_size, seed, config.repeats)
        return self.accelerator.prepare(loader)

    def _steps_per_epoch(self) -> int:
        if not (steps := len(self._loader(seed=0))):
            raise ColorizeError(
                f"{len(self.photos.train)} photos are too few for "
                f"{self.accelerator.num_processes} processes; lower --batch-size"
            )
        return steps

    def _parts(self, stage: Stage) -> dict[str, Any]:
        """All that has a state, by name."""
        scaler = {"scaler": self.accelerator.scaler} if self.accelerator.scaler else {}
        schedules = {f"schedule_{i}": s for i, s in enumerate(stage.schedules)}
        networks = {"generator": self.generator, "averaged": self.averaged}
        return networks | stage.parts | schedules | scaler

    def _save_weights(self, name: str = "generator") -> None:
        if self.out and self.accelerator.is_main_process:
            save_weights(self.averaged.module, self.out / name)

    def _save(self, stage: Stage, epoch: int) -> None:
        self._save_weights()
        if self.checkpoint and self.accelerator.is_main_process:
            write_csv(self.out / "history.csv", self.history)
            # Last: if the run stops before this is done, the epoch is repeated, files and all.
            state = {
                "stage": stage.name,
                "epoch": epoch,
                "precision": self.precision,
                "processes": self.accelerator.num_processes,
                "photos": self.photos.fingerprint(),
                "history": self.history,
                "parts": {name: part.state_dict() for name, part in self._parts(stage).items()},
            }
            save_checkpoint(self.checkpoint, state)

    def _restore(self, stage: Stage) -> int:
        """Load what was saved; gives how many epochs of this stage are done."""
        saved, self.saved = self.saved, {}
        if not saved:
            return 0
        if saved["stage"] != stage.name:  # stopped between the stages: only the average goes on
            self.averaged.load_state_dict(saved["parts"]["averaged"])
            self.generator.load_state_dict(self.averaged.module.state_dict())
            return 0
        for name, part in self._parts(stage).items():
            part.load_state_dict(saved["parts"][name])
        return saved["epoch"]
