"""Which training recipe is best: one change at a time, judged on photos held out.

    python benchmarks/recipe.py --data PHOTOS --val OTHER_PHOTOS --epochs 4 pretrain
    python benchmarks/recipe.py --data PHOTOS --val OTHER_PHOTOS --epochs 1 gan --weights PRETRAINED

Without names every trial of the stage is made; one that is in the results already is passed over.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from trials import TRIALS, Setup

from colorize.config import PRECISIONS, DataConfig, TrainConfig
from colorize.dataset import PhotoSet, load_photo_set, load_photos
from colorize.discriminator import PatchGAN
from colorize.evaluate import measure
from colorize.generator import Generator
from colorize.system.machine import commit, describe
from colorize.trainer import Trainer

COLUMNS = ("l1", "psnr", "ssim", "ciede2000", "colorfulness", "delta_colorfulness")


def as_lively(
    predict: Callable[[Tensor], Tensor], photos: PhotoSet, share: float = 0.95
) -> dict[str, float]:
    """PSNR with colours scaled until they are nearly as lively as the truth's.

    More life always costs PSNR; so the recipes are compared at the same.
    """
    strength = 1.0
    result = measure(predict, photos)
    for _ in range(2):  # colourfulness is nearly proportional to strength
        strength *= share * result["true_colorfulness"] / result["colorfulness"]
        result = measure(lambda L: strength * predict(L), photos)  # noqa: B023
    return {"lively_strength": round(strength, 3), "lively_psnr": result["psnr"]}


def conditions(args: argparse.Namespace) -> dict[str, Any]:
    """What results must have in common to be compared."""
    names = ("stage", "epochs", "data", "val", "size", "max_photos", "precision", "weights")
    return {name: getattr(args, name) for name in names}


def run(args: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """Train with one change, and measure."""
    data = DataConfig(args.data, args.size, args.max_photos, val_fraction=0.0)
    photos = load_photos(data, 0, progress=False)
    held_out, _ = load_photo_set(args.val, args.size)
    epochs = {"pretrain_epochs": 0, "gan_epochs": 0, f"{args.stage}_epochs": args.epochs}
    config = TrainConfig(encoder_weights="none", precision=args.precision, seed=seed, **epochs)
    torch.manual_seed(seed)
    if args.weights:
        generator = Generator.from_pretrained(args.weights)
    else:
        generator = Generator(working_size=args.size)
    torch.manual_seed(seed + 1)
    setup = Setup(config, generator, PatchGAN())
    TRIALS[args.stage][name](setup)
    with ExitStack() as stack:
        for target, value in setup.replaced.items():
            stack.enter_context(patch(target, value))
        trainer = Trainer(setup.train, photos, setup.generator, setup.discriminator, progress=False)
        started, cpu = time.perf_counter(), time.process_time()
        trainer.pretrain()
        trainer.train_gan()
        spent = {
            "seconds": round(time.perf_counter() - started),
            "cpu_seconds": round(time.process_time() - cpu),
        }
    setup.generator.cpu().eval()
    measures = measure(setup.generator, held_out, full=True)
    if args.keep:
        setup.generator.save_pretrained(args.keep / f"{args.stage}-{name}-{seed}")
    lively = as_lively(setup.generator, held_out) if args.stage == "gan" else {}
    ended = trainer.history[-1] if trainer.history else {}
    last = {k: v for k, v in ended.items() if k in ("l1", "gan", "d")}
    return {
        "trial": name,
        "seed": seed,
        **conditions(args),
        "photos": len(photos.train),
        "computed_in": trainer.precision,
        **spent,
        "train": last,
        **{key: measures[key] for key in COLUMNS if key in measures},
        **lively,
        "machine": describe(),
        "commit": commit(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=TRIALS)
    parser.add_argument("names", nargs="*", help="trials; all of the stage if none is named")
    parser.add_argument("--data", required=True, help="photos to train on")
    parser.add_argument("--val", required=True, help="photos to measure on")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--max-photos", type=int)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--weights", help="to start from; needed for the GAN stage")
    parser.add_argument("--results", type=Path, default=Path("runs/recipe.jsonl"))
    parser.add_argument("--precision", choices=PRECISIONS, default="auto")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="also save the weights here")
    args = parser.parse_args()
    if args.stage == "gan" and not args.weights:
        parser.error("the GAN stage needs --weights of pretraining")
    for name in args.names:
        if name not in TRIALS[args.stage]:
            parser.error(f"no trial {name!r}; there are: {', '.join(TRIALS[args.stage])}")
    warnings.filterwarnings("ignore", category=FutureWarning)
    args.results.parent.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in args.names or TRIALS[args.stage]:
            key = {"trial": name, "seed": seed, **conditions(args)}
            lines = args.results.read_text().splitlines() if args.results.exists() else []
            if any(key.items() <= json.loads(line).items() for line in lines):
                continue
            row = run(args, name, seed)
            print({k: v for k, v in row.items() if k not in ("machine", "commit")}, flush=True)
            with open(args.results, "a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
