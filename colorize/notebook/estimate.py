"""How long training will take on this machine, from a few steps before it starts."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace

from torch import nn

from colorize.config import TrainConfig
from colorize.dataset import Photos
from colorize.generator import Generator
from colorize.trainer import Trainer

STAGES = ("pretrain", "gan")


def photos_per_second(
    config: TrainConfig,
    photos: Photos,
    generator: Generator,
    discriminator: nn.Module,
    stage: str,
    batches: int = 8,
) -> float:
    """The speed of one stage, loader included; the networks given stay as they are."""
    shown = batches * config.batch_size
    few = replace(photos.train, rows=photos.train.rows[:shown])
    nothing = replace(photos.val, rows=photos.val.rows[:0])
    # Two epochs, as the first pays for what a device sets up once.
    epochs = {"pretrain_epochs": 0, "gan_epochs": 0, "discriminator_first": 0.0}
    epochs[f"{stage}_epochs"] = 2
    trainer = Trainer(
        replace(config, repeats=math.ceil(shown / len(few)), **epochs),
        replace(photos, train=few, val=nothing),
        deepcopy(generator),
        deepcopy(discriminator),
        progress=False,
    )
    trainer.pretrain()
    return trainer.train_gan()[-1]["photos_per_second"]


def minutes(
    config: TrainConfig, photos: Photos, generator: Generator, discriminator: nn.Module
) -> dict[str, float]:
    """Minutes of each stage with the epochs that `config` asks for; 0 for a stage of none."""
    shown = len(photos.train) * config.repeats
    times = {}
    for stage in STAGES:
        epochs = getattr(config, f"{stage}_epochs")
        networks = (generator, discriminator)
        speed = photos_per_second(config, photos, *networks, stage) if epochs else 1.0
        times[stage] = epochs * shown / speed / 60
    return times
