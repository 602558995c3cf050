"""The trials of `recipe.py`: what each changes, and in which stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam, AdamW

from colorize.config import TrainConfig
from colorize.discriminator import PatchGAN
from colorize.generator import Generator


@dataclass
class Setup:
    """What a trial may change before it starts."""

    train: TrainConfig
    generator: Generator
    discriminator: nn.Module
    replaced: dict[str, Any] = field(default_factory=dict)  # dotted name in the package -> value


Change = Callable[[Setup], None]
WIDE = (512, 256, 128, 64, 32)  # a decoder twice as wide


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
            settings(pretrain_lr=5e-4), network(decoder_widths=WIDE)
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
        "a decoder twice as wide": network(decoder_widths=WIDE),
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
        "spectral norm in D, least squares": both(
            judge(norm="spectral"), settings(objective="lsgan")
        ),
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
