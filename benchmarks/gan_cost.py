"""What each option of the GAN costs: its training step beside the default one's, by turns.

python benchmarks/gan_cost.py [--size 96] [--batch-size 8] [--rounds 5]

CPU seconds of one thread, so that busy neighbours count for little, and the median of the ratios.
Two of the discriminators and losses need the weights of ImageNet's ResNet-18.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from ours import noise_batch, noise_photos
from torch import Tensor

from colorize.config import TrainConfig
from colorize.discriminator import make_discriminator
from colorize.generator import Generator
from colorize.system.machine import commit, describe
from colorize.trainer import Trainer

WGAN = {"objective": "wgan-gp", "discriminator_norm": "layer"}
VARIANTS = {
    "--objective lsgan": {"objective": "lsgan"},
    "--objective hinge": {"objective": "hinge"},
    "--objective wgan-gp --discriminator-norm layer": WGAN,
    "--discriminator-norm layer": {"discriminator_norm": "layer"},
    "--discriminator-norm spectral": {"discriminator_norm": "spectral"},
    "--discriminator-layers 1": {"discriminator_layers": 1},
    "--discriminator-layers 2": {"discriminator_layers": 2},
    "--discriminator-layers 4": {"discriminator_layers": 4},
    "--discriminator-pooling 4": {"discriminator_pooling": 4},
    "--discriminator multiscale": {"discriminator": "multiscale"},
    "--discriminator projected": {"discriminator": "projected"},
    "--lambda-features 1": {"lambda_features": 1.0},
    "--discriminator-first 1, while D is alone": {"discriminator_first": 1.0},
    "--freeze-encoder": {"freeze_encoder": True},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the options of the GAN.")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe()}; commit {commit()}")
    print(f"{args.size}x{args.size}, batch {args.batch_size}, fp32, CPU seconds a step\n")
    print("| option | step, s | times the default |\n|---|---|---|")
    default = gan_step_of({}, args.size, args.batch_size)
    batch = noise_batch(args.size, args.batch_size, torch.device("cpu"))
    spent(default, batch)
    for name, changes in VARIANTS.items():
        step = gan_step_of(changes, args.size, args.batch_size)
        spent(step, batch)  # the first step sets things up
        pairs = [(spent(step, batch), spent(default, batch)) for _ in range(args.rounds)]
        ratio = median(ours / theirs for ours, theirs in pairs)
        print(f"| `{name}` | {median(ours for ours, _ in pairs):.2f} | {ratio:.2f} |", flush=True)


def gan_step_of(changes: dict[str, object], size: int, batch_size: int) -> Callable[..., object]:
    """A step of the GAN stage of a trainer with these settings."""
    torch.manual_seed(0)
    config = TrainConfig(batch_size=batch_size, gan_epochs=2, precision="fp32", **changes)
    photos, generator = noise_photos(size, batch_size), Generator(working_size=size)
    trainer = Trainer(config, photos, generator, make_discriminator(config), progress=False)
    stage = trainer.gan_stage()
    generator.train()
    if stage.frozen_encoder:
        generator.encoder.eval()
    return stage.step


def spent(step: Callable[..., object], batch: tuple[Tensor, Tensor]) -> float:
    """CPU seconds of one step."""
    started = time.process_time()
    step(*batch)
    return time.process_time() - started


if __name__ == "__main__":
    main()
