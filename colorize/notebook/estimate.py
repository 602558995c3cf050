"""How long training will take on this machine, from a few steps before it starts."""

from __future__ import annotations

from torch import nn

from colorize.config import TrainConfig
from colorize.dataset import Photos
from colorize.generator import Generator
from colorize.trainer import photos_per_second

STAGES = ("pretrain", "gan")


def minutes(
    config: TrainConfig, photos: Photos, generator: Generator, discriminator: nn.Module
) -> dict[str, float]:
    """Minutes of each stage with the epochs that `config` asks for; 0 for a stage of none."""
    shown = config.epoch_photos or len(photos.train) * config.repeats
    times = {}
    for stage in STAGES:
        epochs = getattr(config, f"{stage}_epochs")
        networks = (generator, discriminator)
        speed = photos_per_second(config, photos, *networks, stage) if epochs else 1.0
        times[stage] = epochs * shown / speed / 60
    return times
