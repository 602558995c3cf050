"""Scaling on paper: photos a second and network traffic of n processes, from one process's step.

python benchmarks/scaling.py    # add --step-seconds PRETRAIN GAN for times measured elsewhere

Each of n processes has the same batch size. A ring all-reduce of B bytes makes each of them send
2 (n - 1) / n B, the least possible (Patarasuk and Yuan 2009, doi:10.1016/j.jpdc.2008.09.002), and
a ring all-gather of B bytes from each (n - 1) B. What they exchange in a step:

- gradients, in float32: G's once in both stages, D's once in the GAN stage. DDP sends them in
  buckets, and may do so while the backward pass goes on;
- batch norm's statistics, as `torch.nn.SyncBatchNorm` does on GPUs: for C channels an all-gather
  of 2C + 1 floats whenever a layer looks at a batch, an all-reduce of 2C whenever gradients come
  back. The layer waits for each, so computation never hides them.

Left out: loader, validation, waiting for the slowest, links shared by several rings. A message's
latency is the same for every n here; in truth it grows with n.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ours import noise_batch, noise_trainer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook
from where import seconds

from colorize.system.files import write_json
from colorize.system.machine import commit, describe

WITHIN, BETWEEN = 20e-6, 50e-6  # s a message, in a host and between hosts: assumed, not measured


class Link(NamedTuple):
    """What a process sends through, one way; at most so many processes are linked like this."""

    name: str
    gbit_per_second: float
    latency: float = BETWEEN
    most: float = math.inf


LINKS = [
    Link("Ethernet, 10 Gbit/s", 10),  # IEEE 802.3ae, nominal
    Link("InfiniBand NDR, 400 Gbit/s", 400),  # a port of a ConnectX-7, nominal
    # 16 lanes of 16 GT/s, 128 of 130 bits used: 31.5 GB/s. That 80 % are reached is an assumption.
    Link("PCIe 4.0 x16, 25 GB/s", 200, WITHIN, most=8),
    # H100 and H200: 18 links of 25 GB/s each way, nominal ("900 GB/s" counts both); 8 in a host.
    Link("NVLink 4, 450 GB/s", 3600, WITHIN, most=8),
]


class Step(NamedTuple):
    """What a step of one process takes, and what several would exchange in it."""

    stage: str
    precision: str
    seconds: float
    gradients: list[int]  # bytes, of each network that learns
    forward: list[int]  # channels of each batch norm, as often as it looks at a batch
    backward: list[int]  # and as often as gradients come back through it


def calculate(step: Step, n: int, link: Link, batch_size: int) -> dict[str, Any]:
    """A row of the table: traffic of each of n processes, photos a second of all."""
    gradients = 2 * (n - 1) / n * sum(step.gradients)
    norms = (n - 1) * sum(4 * (2 * c + 1) for c in step.forward)
    norms += 2 * (n - 1) / n * sum(4 * 2 * c for c in step.backward)
    # DDP's first bucket holds 1 MiB or more, the others 25 or more: at most so many.
    buckets = sum(1 + math.ceil(max(size / 2**20 - 1, 0) / 25) for size in step.gradients)
    buckets, waits = (buckets, len(step.forward + step.backward)) if n > 1 else (0, 0)
    rate = link.gbit_per_second * 1e9 / 8
    waiting = norms / rate + waits * link.latency
    sending = gradients / rate + buckets * link.latency
    row = {"stage": step.stage, "processes": n, "link": link.name if n > 1 else "none"}
    row |= {"gradient_MB": gradients / 1e6, "batch_norm_MB": norms / 1e6}
    row |= {"messages": buckets + waits, "network_ms": 1e3 * (waiting + sending)}
    row["photos_per_second"] = n * batch_size / (step.seconds + waiting + sending)
    row["overlapped"] = n * batch_size / (waiting + max(step.seconds, sending))
    return row | {"ideal": n * batch_size / step.seconds}


def count_norms(run: Callable[[], Any]) -> tuple[list[int], list[int]]:
    """Channels of every batch norm that `run` goes through: forward, and backward."""
    passes: tuple[list[int], list[int]] = ([], [])

    def look(layer: nn.Module, _: Any, output: Tensor) -> None:
        if isinstance(layer, _BatchNorm):
            passes[0].append(layer.num_features)
            output.register_hook(lambda _: passes[1].append(layer.num_features))

    handle = register_module_forward_hook(look)
    run()
    handle.remove()
    return passes


def one_step(stage: str, size: int, batch_size: int, rounds: int, given: float | None) -> Step:
    """A stage's step, its median time measured unless it is given."""
    if given:
        size, batch_size = 64, 2  # what is exchanged depends on neither
    trainer = noise_trainer(size, batch_size, "auto")
    device, step = trainer.accelerator.device, getattr(trainer, f"{stage}_stage")().step
    batch = noise_batch(size, batch_size, device)
    passes = count_norms(lambda: step(*batch))
    networks = (trainer.generator, trainer.discriminator)[: 2 if stage == "gan" else 1]
    gradients = [sum(4 * p.numel() for p in m.parameters() if p.requires_grad) for m in networks]
    times = 10 if device.type == "cuda" else 1  # there one step is too short to be timed
    spent = given or seconds(lambda: [step(*batch) for _ in range(times)], device, rounds) / times
    return Step(stage, "as given" if given else trainer.precision, spent, gradients, *passes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4, help="of each process")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--step-seconds", type=float, nargs=2, metavar=("PRETRAIN", "GAN"))
    parser.add_argument("--gbit-per-second", type=float, nargs="+", help="links, one way")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    links = [Link(f"{x:g} Gbit/s", x) for x in args.gbit_per_second or ()] or LINKS
    machine = "times as given" if args.step_seconds else describe()
    print("Arithmetic from one process's step: several were not measured, latencies are assumed.")
    print(f"{machine}; commit {commit()}; {args.size}x{args.size}, batch {args.batch_size}")
    rows = []
    for stage, given in zip(("pretrain", "gan"), args.step_seconds or (None, None), strict=True):
        step = one_step(stage, args.size, args.batch_size, args.rounds, given)
        print(f"{stage}: {step.seconds:.4g} s a step ({step.precision})")
        for n in args.processes:
            usable = [link for link in links if n <= link.most] if n > 1 else links[:1]
            rows += [calculate(step, n, link, args.batch_size) for link in usable]
    print("\n| " + " | ".join(rows[0]).replace("_", " ") + " |\n|" + "---|" * len(rows[0]))
    for row in rows:
        cells = (f"{x:,.1f}" if isinstance(x, float) else str(x) for x in row.values())
        print("| " + " | ".join(cells) + " |")
    if args.json:
        about = {"machine": machine, "commit": commit(), "size": args.size}
        write_json(args.json, {**about, "batch_size": args.batch_size, "rows": rows})


if __name__ == "__main__":
    main()
