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
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from machine import commit, describe
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from colorize.config import PRECISIONS, DataConfig, TrainConfig
from colorize.data import PhotoSet, load_photo_set, load_photos
from colorize.discriminator import PatchGAN
from colorize.evaluate import measure
from colorize.generator import Generator
from colorize.train import Trainer

COLUMNS = ("l1", "psnr", "ssim", "ciede2000", "colorfulness", "delta_colorfulness")


@dataclass
class Setup:
    """What a trial may change before it starts."""

    train: TrainConfig
    generator: Generator
    discriminator: nn.Module
    replaced: dict[str, Any] = field(default_factory=dict)  # dotted name in the package -> value


Change = Callable[[Setup], None]


def settings(**values: Any) -> Change:
    def change(setup: Setup) -> None:
        setup.train = replace(setup.train, **values)

    return change


def network(**options: Any) -> Change:
    def change(setup: Setup) -> None:
        setup.generator = Generator(working_size=setup.generator.working_size, **options)

    return change


def judge(**options: Any) -> Change:
    def change(setup: Setup) -> None:
        setup.discriminator = PatchGAN(**options)

    return change


def instead(name: str, value: Any) -> Change:
    def change(setup: Setup) -> None:
        setup.replaced[f"colorize.{name}"] = value

    return change


@torch.no_grad()
def residual_branches_start_at_one(setup: Setup) -> None:
    for layer in setup.generator.encoder.layers:
        for block in layer:
            block.bn2.weight.fill_(1.0)


def dropout(share: float) -> Change:
    """Of whole channels, after each decoder stage but the finest two, which paint the pixels."""

    def change(setup: Setup) -> None:
        for stage in setup.generator.stages[:3]:
            stage.merge.append(nn.Dropout2d(share))

    return change


def adamw(generator: Generator, config: TrainConfig, betas: tuple[float, float]) -> AdamW:
    parameters = generator.parameters()
    return AdamW(
        parameters, config.pretrain_lr, betas, weight_decay=config.weight_decay, fused=True
    )


def unequal_adam(net: nn.Module, config: TrainConfig, discriminator_lr: float) -> Adam:
    lr = config.gan_lr * (1.0 if isinstance(net, Generator) else discriminator_lr)
    return Adam(net.parameters(), lr, config.gan_betas, fused=True)


def huber(predicted: Tensor, true: Tensor, delta: float = 0.05) -> Tensor:
    """L1 that is quadratic near zero, on the scale of L1."""
    return F.huber_loss(predicted.float(), true.float(), delta=delta) / delta


def squared(predicted: Tensor, true: Tensor) -> Tensor:
    """Squared error, which draws to the mean of what is possible, not to its median.

    Its gradient is that of L1 where a colour is off by 0.1, 11 units of ab.
    """
    return F.mse_loss(predicted.float(), true.float()) / 0.2


def both(*changes: Change) -> Change:
    def change(setup: Setup) -> None:
        for one in changes:
            one(setup)

    return change


TRIALS: dict[str, dict[str, Change]] = {
    "pretrain": {
        "as it is": settings(),
        "learning rate 3e-4": settings(pretrain_lr=3e-4),
        "learning rate 5e-4": settings(pretrain_lr=5e-4),
        "learning rate 5e-4, Huber loss": both(
            settings(pretrain_lr=5e-4), instead("steps.l1_loss", huber)
        ),
        "learning rate 5e-4, crops down to 0.4 of the area": settings(
            pretrain_lr=5e-4, min_crop_area=0.4
        ),
        "learning rate 5e-4, lightness jitter 0.25": settings(
            pretrain_lr=5e-4, lightness_jitter=0.25
        ),
        "learning rate 5e-4, dropout 0.2": both(settings(pretrain_lr=5e-4), dropout(0.2)),
        "learning rate 5e-4, a decoder twice as wide": both(
            settings(pretrain_lr=5e-4), network(decoder_widths=(512, 256, 128, 64, 32))
        ),
        "learning rate 2e-3": settings(pretrain_lr=2e-3),
        "batch 8": settings(batch_size=8),
        "batch 32": settings(batch_size=32),
        "weight decay 0.1": settings(weight_decay=0.1),
        "Adam's betas 0.9, 0.99": instead(
            "stages.pretrain_optimizer", partial(adamw, betas=(0.9, 0.99))
        ),
        "residual branches that do not start at zero": residual_branches_start_at_one,
        "Huber loss": instead("steps.l1_loss", huber),
        "random crops down to 0.36 of the area": settings(min_crop_area=0.36),
        "a decoder twice as wide": network(decoder_widths=(512, 256, 128, 64, 32)),
        "its fine half twice as wide": network(decoder_widths=(256, 128, 128, 64, 32)),
        "ResNet-34": network(encoder="resnet34"),
    },
    "gan": {
        "none": settings(gan_epochs=0),  # as lively by stronger colours alone
        "as it is": settings(),
        "least squares": settings(objective="lsgan"),
        "hinge": settings(objective="hinge"),
        "lambda 30": settings(lambda_l1=30.0),
        "lambda 200": settings(lambda_l1=200.0),
        "spectral norm in D, lambda 200": both(judge(norm="spectral"), settings(lambda_l1=200.0)),
        "learning rates 1e-4": settings(gan_lr=1e-4),
        "D's learning rate halved": instead(
            "stages.gan_optimizer", partial(unequal_adam, discriminator_lr=0.5)
        ),
        "D half as wide": judge(width=32),
        "spectral norm in D": judge(norm="spectral"),
        "spectral norm in D, hinge": both(judge(norm="spectral"), settings(objective="hinge")),
        "spectral norm in D, lambda 30": both(judge(norm="spectral"), settings(lambda_l1=30.0)),
        "spectral norm in D, half as wide": judge(norm="spectral", width=32),
        "spectral norm in D, its learning rate halved": both(
            judge(norm="spectral"),
            instead("stages.gan_optimizer", partial(unequal_adam, discriminator_lr=0.5)),
        ),
        "spectral norm in D, squared loss beside it": both(
            judge(norm="spectral"), instead("steps.l1_loss", squared)
        ),
        "slower average, 0.9995": settings(ema_decay=0.9995),
        "D of 34x34": judge(layers=2),
    },
}


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
