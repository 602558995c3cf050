"""Where a training step's time goes, what share of the machine it uses, and what size costs.

python benchmarks/where.py                      # parts of a step, share of the matrix-product rate
python benchmarks/where.py --cost               # time and memory by size and by batch
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import peak_gb
from ours import noise_batch, noise_trainer, seconds_of
from torch.utils.flop_counter import FlopCounterMode

from colorize.dataset import crop_flip, random_crops, to_network, train_loader
from colorize.losses import gan_loss, l1_loss
from colorize.system.files import write_json
from colorize.system.machine import commit, describe
from colorize.trainer import Trainer
from colorize.training.optimizers import gan_optimizer

SWEEP = [(64, 4), (128, 4), (256, 4), (512, 4), (128, 1), (128, 16), (128, 64)]  # size, batch


def seconds(run: Callable[[], Any], device: torch.device, rounds: int) -> float:
    """Median of several runs, after one that does not count."""
    times = 10 if device.type == "cuda" else 1  # there one run is too short to be timed

    def runs() -> None:
        for _ in range(times):
            run()

    return median([seconds_of(runs, device) for _ in range(rounds + 1)][1:]) / times


def matrix_rate(device: torch.device, precision: str, rounds: int) -> float:
    """Operations a second of a square matrix product, 2 a multiply-add."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    side = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(side, side, device=device).to(kind)
    return 2 * side**3 / seconds(lambda: matrix @ matrix, device, rounds)


def parts_of_a_step(trainer: Trainer, rounds: int) -> dict[str, float]:
    """Seconds of each part of a GAN step, and of the whole."""
    device = trainer.accelerator.device
    batches = train_loader(trainer.photos.train, trainer.config.batch_size, 0)
    rgb = next(iter(batches))
    size = trainer.photos.size
    crops = random_crops(len(rgb), rgb.shape[-1], size, seed=0)
    L, ab = to_network(crop_flip(rgb.to(device), size, crops))
    step = trainer.gan_stage().step
    networks = (trainer.generator, trainer.discriminator)
    optimizers = [gan_optimizer(network, trainer.config) for network in networks]

    def forward() -> torch.Tensor:
        with trainer.accelerator.autocast():  # which a step has around its networks
            return trainer.generator(L)

    def discriminator() -> None:
        fake_ab = ab.clone().requires_grad_()
        with trainer.accelerator.autocast():
            real = trainer.discriminator(torch.cat((L, ab), 1))
            fake = trainer.discriminator(torch.cat((L, fake_ab), 1))
        d_loss = gan_loss(real, True) + gan_loss(fake, False)
        d_loss.backward(inputs=list(trainer.discriminator.parameters()), retain_graph=True)
        gan_loss(fake, True).backward(inputs=[fake_ab])

    def optimize() -> None:
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)

    def time_of(run: Callable[[], Any]) -> float:
        return seconds(run, device, rounds)

    times = {"whole step": time_of(lambda: step(L, ab))}
    times["loader"] = time_of(lambda: next(iter(batches)))
    times["crops and Lab"] = time_of(lambda: to_network(crop_flip(rgb.to(device), size, crops)))
    times["G forward"] = time_of(forward)
    times["G backward"] = time_of(lambda: l1_loss(forward(), ab).backward()) - times["G forward"]
    times["D, for both networks"] = time_of(discriminator)
    times["optimizers"] = time_of(optimize)
    times["weight average"] = time_of(lambda: trainer.averaged.update_parameters(trainer.generator))
    counted = sum(times[name] for name in list(times)[3:])
    return times | {"the rest of the step": times["whole step"] - counted}


def show_parts(args: argparse.Namespace) -> None:
    """Parts of a GAN step, and the share of the matrix-product rate that both steps reach."""
    tables = []
    for precision, batch_size in product(args.precisions, args.batch_size):
        trainer = noise_trainer(args.size, batch_size, precision)
        device = trainer.accelerator.device
        times = parts_of_a_step(trainer, args.rounds)
        whole = times["whole step"]
        print(f"\nGAN step, {args.size}x{args.size}, batch {batch_size}, {precision}, {device}")
        for name, spent in times.items():
            print(f"  {name:<24}{1000 * spent:>9.1f} ms{100 * spent / whole:>8.1f} %")
        table = {"size": args.size, "batch_size": batch_size, "precision": precision}
        table |= {"device": str(device), "seconds": times}
        peak = matrix_rate(device, precision, args.rounds)
        for stage in ("pretrain", "gan"):
            share = share_of_peak(trainer, stage, args.rounds, peak)
            print(
                f"  {stage}: {share['gflop']:.0f} GFLOP, {share['gflops']:.0f} GFLOP/s, "
                f"{100 * share['share']:.0f} % of a matrix product's {peak / 1e9:.0f}"
            )
            table[stage] = share
        tables.append(table)
        if args.json:
            write_json(args.json, {"machine": describe(), "commit": commit(), "tables": tables})


def share_of_peak(trainer: Trainer, stage: str, rounds: int, peak: float) -> dict[str, float]:
    """What a step computes, how fast, and what share that is of a matrix product's rate."""
    device = trainer.accelerator.device
    batch = noise_batch(trainer.photos.size, trainer.config.batch_size, device)
    step = getattr(trainer, f"{stage}_stage")().step
    spent = seconds(lambda: step(*batch), device, rounds)
    with FlopCounterMode(display=False) as counter:
        step(*batch)
    flop = counter.get_total_flops()
    return {
        "seconds": spent,
        "gflop": flop / 1e9,
        "gflops": flop / spent / 1e9,
        "matrix_gflops": peak / 1e9,
        "share": flop / spent / peak,
    }


def show_cost(args: argparse.Namespace) -> None:
    """A table by size and batch; each row is measured in a process of its own."""
    print("\nGAN step\n  size  batch     s a photo   us a pixel   peak GB")
    for size, batch_size in SWEEP:
        command = [sys.executable, str(Path(__file__)), "--one", str(size), str(batch_size)]
        command += ["--rounds", str(args.rounds)]
        result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        spent, peak = map(float, result.stdout.split())
        each = spent / batch_size
        print(f"{size:>6}{batch_size:>7}{each:>14.4f}{1e6 * each / size**2:>13.3f}{peak:>10.2f}")


def show_one(size: int, batch_size: int, rounds: int) -> None:
    """Seconds of a GAN step, and peak memory in GB: of the GPU, or else of the process."""
    trainer = noise_trainer(size, batch_size, "auto")
    device = trainer.accelerator.device
    batch = noise_batch(size, batch_size, device)
    step = trainer.gan_stage().step
    spent = seconds(lambda: step(*batch), device, rounds)
    print(spent, peak_gb(device))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[4])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cost", action="store_true", help="time and memory by size and batch")
    parser.add_argument("--json", type=Path, help="also write the tables here")
    parser.add_argument("--one", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        show_one(*args.one, args.rounds)
        return
    print(f"{describe()}; commit {commit()}")
    if args.cost:
        show_cost(args)
    else:
        show_parts(args)


if __name__ == "__main__":
    main()
