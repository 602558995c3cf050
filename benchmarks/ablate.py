"""What each choice gives: a step with one of them taken back at a time, alternating.

python benchmarks/ablate.py              # add --compile for torch.compile, which takes minutes
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from accelerate import PartialState
from ours import noise_batch, noise_trainer, repeat, seconds_of
from reference import Reference
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from colorize.config import TrainConfig
from colorize.losses import gan_loss, l1_loss
from colorize.system.errors import first_line
from colorize.system.files import write_json
from colorize.system.machine import commit, describe
from colorize.trainer import Trainer
from colorize.training.memory import Accumulation, Losses
from colorize.training.optimizers import weight_average
from colorize.training.precision import pick_precision


def classic_step(
    generator: nn.Module,
    discriminator: nn.Module,
    g_optimizer: torch.optim.Optimizer,
    d_optimizer: torch.optim.Optimizer,
    L: Tensor,
    ab: Tensor,
    backward: Callable[..., None],
    accumulate: Accumulation,
    objective: str,
    lambda_l1: float,
    hints: Tensor | None = None,
    d_alone: bool = False,
) -> Losses:
    """D steps first; then G asks the moved D once more, as pix2pix does."""
    fake_ab = generator(L, hints)
    real = gan_loss(discriminator(torch.cat((L, ab), 1)), True, objective)
    fake = gan_loss(discriminator(torch.cat((L, fake_ab.detach()), 1)), False, objective)
    d_optimizer.zero_grad()
    backward((real + fake) / 2)
    d_optimizer.step()

    discriminator.requires_grad_(False)
    logits = discriminator(torch.cat((L, fake_ab), 1))
    fooling = gan_loss(logits, True, objective, for_discriminator=False)
    l1 = l1_loss(fake_ab, ab)
    g_optimizer.zero_grad()
    backward(fooling + lambda_l1 * l1)
    g_optimizer.step()
    discriminator.requires_grad_(True)
    return {"l1": l1.detach()}


def plain_adam(network: nn.Module, config: TrainConfig, **options: bool) -> Adam:
    return Adam(network.parameters(), config.gan_lr, config.gan_betas, **options)


def average_one_by_one(network: nn.Module, decay: float) -> AveragedModel:
    return AveragedModel(network, avg_fn=get_ema_avg_fn(decay), use_buffers=True)


def contiguous(trainer: Trainer) -> None:
    for network in (trainer.generator, trainer.discriminator):
        network.to(memory_format=torch.contiguous_format)


def compiled(trainer: Trainer, **options: Any) -> None:
    import torch._functorch.config

    torch._functorch.config.donated_buffer = False  # D's graph is gone through twice
    for network in (trainer.generator, trainer.discriminator):
        network.compile(**options)


def with_cudnn_search(step: Callable[[Tensor, Tensor], Any]) -> Callable[[Tensor, Tensor], Any]:
    """The step, with the fastest of cuDNN's algorithms instead of the likeliest."""

    def run(L: Tensor, ab: Tensor) -> None:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            step(L, ab)

    return run


def heavy_decoder(trainer: Trainer) -> None:
    unet = Reference(trainer.photos.size).generator
    trainer.generator = unet.to(trainer.accelerator.device, memory_format=torch.channels_last)
    trainer.averaged = weight_average(unet, trainer.config.ema_decay)


def without_average(trainer: Trainer) -> None:
    trainer.averaged.update_parameters = lambda network: None


# What is taken back: names in `colorize.trainer` to replace, or changes to a finished trainer.
REPLACED = {
    "D looks at the fake twice": {"gan_step": classic_step},
    "Adam, foreach": {"gan_optimizer": partial(plain_adam, foreach=True)},
    "Adam, a loop": {"gan_optimizer": partial(plain_adam, foreach=False)},
    "weight average, a loop": {"weight_average": average_one_by_one},
}
CHANGED = {
    "no weight average": without_average,
    "contiguous memory": contiguous,
    "fastai's decoder": heavy_decoder,
}
COMPILED = {
    "torch.compile": compiled,
    "torch.compile, CUDA graphs": partial(compiled, mode="reduce-overhead"),
}
BASE = "as it is"
SEARCH = "cuDNN's fastest algorithms"


def build(
    name: str, stage: str, size: int, batch_size: int, precision: str
) -> Callable[[Tensor, Tensor], Any]:
    """The step of one variant."""
    parts = REPLACED.get(name)
    with patch.multiple("colorize.trainer", **parts) if parts else nullcontext():
        trainer = noise_trainer(size, batch_size, precision)
        if change := (CHANGED | COMPILED).get(name):
            change(trainer)
        step = getattr(trainer, f"{stage}_stage")().step
    if name == SEARCH:
        return with_cudnn_search(step)

    def run(L: Tensor, ab: Tensor) -> None:
        # The step looks its parts up when it is called.
        with patch.multiple("colorize.trainer", **parts) if parts else nullcontext():
            step(L, ab)

    return run


class Race:
    """Steps of variants in turns, and their table, written after each round of it."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.precision = args, pick_precision()
        self.device = PartialState().device
        self.batch = noise_batch(args.size, args.batch_size, self.device)
        self.rows: list[dict[str, Any]] = []

    def variants(self) -> list[str]:
        """Those that are not compiled; of L1 alone, without what is the GAN's."""
        of_gan = {"gan_step", "gan_optimizer"} if self.args.stage == "pretrain" else set()
        more = [name for name, parts in REPLACED.items() if not of_gan & parts.keys()]
        more += CHANGED
        more += [SEARCH] if self.device.type == "cuda" else []
        full = ["float32"] if self.precision != "fp32" else []
        only = self.args.only
        return [BASE, *full, *(name for name in more if not only or name in only)]

    def run(self, variants: list[str]) -> None:
        """Time them in turns, say and write what came out. One that fails is left out."""
        steps, first, times = {}, {}, {}
        for name in variants:
            with self.left_out(name):
                step = self.step(name)
                # With what it sets up once: for torch.compile minutes, for CUDA graphs two steps.
                first[name] = self.seconds(partial(step, *self.batch))
                repeat(step, self.batch, 2)
                steps[name], times[name] = step, []
        often = 10 if self.device.type == "cuda" else 1  # there one step is too short to be timed
        for _ in range(self.args.rounds):
            for name, step in steps.items():
                with self.left_out(name):
                    spent = self.seconds(partial(repeat, step, self.batch, often))
                    times[name].append(spent / often)
        told = {row["name"] for row in self.rows}
        for name, spent in times.items():
            if not spent or name in told:
                continue
            row = {"name": name, "seconds": median(spent), "first_seconds": first[name]}
            row["ratio"] = row["seconds"] / median(times[BASE])
            print(f"{name:<28}{1000 * row['seconds']:>9.0f} ms{row['ratio']:>8.2f}x", flush=True)
            self.rows.append(row)
        if self.args.json:
            about = {"machine": describe(), "commit": commit()}
            write_json(self.args.json, {**about, "rows": self.rows})

    def step(self, name: str) -> Callable[[Tensor, Tensor], Any]:
        kind = "fp32" if name == "float32" else self.precision
        return build(name, self.args.stage, self.args.size, self.args.batch_size, kind)

    def seconds(self, run: Callable[[], Any]) -> float:
        return seconds_of(run, self.device)

    @contextmanager
    def left_out(self, name: str) -> Iterator[None]:
        """No compiler or no fastai, or one that fails, costs one variant."""
        try:
            yield
        except Exception as error:
            print(f"{name} is left out: {first_line(error)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=("pretrain", "gan"), default="gan")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile too: minutes more")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="no other variants than these")
    parser.add_argument("--json", type=Path, help="also write the table here")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)  # fastai's
    race = Race(args)
    print(f"{describe()}; commit {commit()}")
    print(f"{args.stage} step, {args.size}x{args.size}, batch {args.batch_size}, {race.precision}")
    race.run(race.variants())
    for name in COMPILED if args.compile else ():  # minutes each, one may fail: the others are kept
        race.run([BASE, name])


if __name__ == "__main__":
    main()
