"""Both recipes on the same photos for the same time, or the same number of epochs.

After each of our epochs the reference trains for as long as that epoch took, its validation and its
checkpoint included; so whatever else the machine does hits both alike.

    python benchmarks/equal_time.py --data PHOTOS --val OTHER_PHOTOS --size 96
    python benchmarks/equal_time.py --data PHOTOS --val OTHER_PHOTOS --size 96 --epochs 2
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from reference import Reference, loader
from torch import Tensor

from colorize.config import DataConfig, TrainConfig
from colorize.dataset import Photos, PhotoSet, load_photo_set, load_photos, spread, to_network
from colorize.discriminator import PatchGAN
from colorize.evaluate import measure
from colorize.generator import Generator
from colorize.notebook.estimate import photos_per_second
from colorize.photos.sources import source_paths
from colorize.run import load_encoder_weights
from colorize.system.files import write_json
from colorize.system.machine import commit, describe
from colorize.trainer import EpochReport, Trainer
from colorize.viz import grid, save

COLUMNS = ("l1", "psnr", "ssim", "ciede2000", "colorfulness", "true_colorfulness")


class Rival:
    """The reference, training in slices."""

    def __init__(
        self, paths: list[Path], size: int, batch_size: int, workers: int, imagenet: bool = False
    ) -> None:
        self.recipe = Reference(size, PartialState().device, imagenet)
        self.loader = loader(paths, size, batch_size, workers)
        if not len(self.loader):
            raise SystemExit(f"{len(paths)} photos are too few for batches of {batch_size}")
        self.batches = self._forever()
        self.stage = "pretrain"
        self.seconds, self.photos = 0.0, 0

    def train(self, stage: str, seconds: float = 0.0, epochs: int = 0) -> None:
        """For so many seconds, or else for so many epochs."""
        if stage != self.stage:
            self.recipe.start_gan()
            self.stage = stage
        step = self.recipe.gan_step if stage == "gan" else self.recipe.pretrain_step
        started, batches = time.perf_counter(), epochs * len(self.loader)
        for done in count(1):
            L, ab = next(self.batches)
            step(L, ab)
            self.photos += len(L)
            elapsed = time.perf_counter() - started
            if elapsed >= seconds if seconds else done == batches:
                break
        self.seconds += elapsed

    def _forever(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.loader


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="photos to train on")
    parser.add_argument("--val", required=True, help="photos to measure on")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pretrain-minutes", type=float, default=14.0)
    parser.add_argument("--gan-minutes", type=float, default=6.0)
    parser.add_argument("--epochs", type=int, help="equal epochs of L1 instead of equal time")
    parser.add_argument("--gan-epochs", type=int, default=0, help="after them, with --epochs")
    parser.add_argument("--max-photos", type=int)
    parser.add_argument("--workers", type=int, default=2, help="of the reference's loader")
    parser.add_argument("--imagenet", action="store_true", help="both start from its ResNet-18")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/equal_time"))
    return parser.parse_args()


class Race:
    """Ours through the project's own `Trainer`; the reference takes its turn after each epoch."""

    def __init__(self, args: argparse.Namespace, photos: Photos, config: TrainConfig) -> None:
        self.epochs, self.out = args.epochs, args.out
        paths = source_paths(args.data)
        files = [paths[name] for name in photos.train.names]
        torch.manual_seed(args.seed)
        imagenet = config.encoder_weights == "imagenet"
        self.rival = Rival(files, args.size, args.batch_size, args.workers, imagenet)
        torch.manual_seed(args.seed)
        self.generator = Generator(working_size=args.size)
        load_encoder_weights(self.generator, config.encoder_weights)
        self.trainer = Trainer(
            config,
            photos,
            self.generator,
            PatchGAN(),
            args.out,
            callbacks=[self._take_turns],
            progress=False,
        )
        self.photos_an_epoch = len(photos.train) // args.batch_size * args.batch_size
        self.seconds, self.photos = 0.0, 0

    def run(self, stage: str) -> None:
        """One stage of both."""
        self.clock = time.perf_counter()
        {"pretrain": self.trainer.pretrain, "gan": self.trainer.train_gan}[stage]()
        self.generator.eval()

    def measure(self, stage: str, held_out: PhotoSet) -> list[dict[str, Any]]:
        """A row of measures for each recipe, and a picture."""
        device = self.trainer.accelerator.device
        chosen = held_out.__getitems__(spread(len(held_out), 12)).to(device)
        L, ab = to_network(chosen)
        rows = []
        for name, predict, runner in (
            ("ours", self.generator, self),
            ("reference", self.rival.recipe.predict, self.rival),
        ):
            measures = measure(predict, held_out, device=device, full=True)
            row = {"recipe": name, "stage": stage, "minutes": round(runner.seconds / 60, 2)}
            row |= {"photos": runner.photos, **{key: measures[key] for key in COLUMNS}}
            print(json.dumps(row), flush=True)
            rows.append(row)
            with torch.no_grad():
                picture = grid(L.cpu(), predict(L).float().cpu(), ab.cpu())
            save(picture, self.out / f"{name}-{stage}.png")
        return rows

    def _take_turns(self, report: EpochReport) -> None:
        elapsed = time.perf_counter() - self.clock
        self.seconds += elapsed
        self.photos += self.photos_an_epoch
        turn = {"epochs": 1} if self.epochs else {"seconds": elapsed}
        self.rival.train(report.stage, **turn)
        print(f"{report.stage} {report.epoch}/{report.epochs}: {report.history[-1]}", flush=True)
        self.clock = time.perf_counter()


def plan(args: argparse.Namespace, photos: Photos) -> TrainConfig:
    """As many of our epochs as fit the minutes."""
    wish = "imagenet" if args.imagenet else "none"
    config = TrainConfig(batch_size=args.batch_size, encoder_weights=wish, seed=args.seed)
    if args.epochs:
        return replace(config, pretrain_epochs=args.epochs, gan_epochs=args.gan_epochs)
    # Whole epochs only: pretraining takes what the GAN's leave of the time.
    left = 60 * (args.pretrain_minutes + args.gan_minutes)
    for stage in ("gan", "pretrain"):
        seconds = 60 * args.gan_minutes if stage == "gan" else left
        one = len(photos.train) / photos_per_second(config, photos, Generator(), PatchGAN(), stage)
        epochs = max(1, round(seconds / one))
        config = replace(config, **{f"{stage}_epochs": epochs})
        left -= epochs * one
    return config


def main() -> None:
    args = arguments()
    warnings.filterwarnings("ignore", category=FutureWarning)  # fastai's
    about = {"machine": describe(), "commit": commit()}  # now: hours later it may be another
    data = DataConfig(args.data, args.size, args.max_photos, val_fraction=0.02)
    photos = load_photos(data, args.seed)
    held_out, _ = load_photo_set(args.val, args.size)
    config = plan(args, photos)
    print(f"{photos.summary()}; {config.pretrain_epochs} + {config.gan_epochs} epochs", flush=True)
    race = Race(args, photos, config)
    rows: list[dict[str, Any]] = []
    for stage in ("pretrain", "gan")[: 2 if config.gan_epochs else 1]:
        race.run(stage)
        rows += race.measure(stage, held_out)
    about |= {"precision": race.trainer.precision, "data": args.data, "size": args.size}
    about |= {"photos": len(photos.train), "encoder_weights": config.encoder_weights}
    write_json(args.out / "equal_time.json", {**about, "rows": rows})


if __name__ == "__main__":
    main()
