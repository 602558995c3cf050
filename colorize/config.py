"""Settings of a run: what the command line, the notebooks and the checkpoints share."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from colorize.system.errors import ColorizeError

ENCODERS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
ENCODER_WEIGHTS = ("imagenet", "none", "auto")
DISCRIMINATORS = ("patch", "multiscale", "projected")
DISCRIMINATOR_LAYERS = range(1, 6)
DISCRIMINATOR_POOLINGS = (1, 2, 4, 8)
DISCRIMINATOR_NORMS = ("batch", "spectral", "layer")
OBJECTIVES = ("bce", "lsgan", "hinge", "wgan-gp")
SCALES = 3  # of the discriminator "multiscale"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
# Of the colours that `predict` gives, see `predict.smooth`. Chosen by eye.
SMOOTHNESS = 600.0


@dataclass(frozen=True)
class DataConfig:
    """Which photos, and how they are prepared."""

    source: str = "builtin"  # "builtin", "coco", or a folder that is searched recursively
    size: int = 256  # side of the square that the networks see, pixels
    max_photos: int | None = None  # a seeded choice of this many; None takes all
    val_fraction: float = 0.1  # share held out from training
    # Share of its size that the cached photo has to spare for random crops. Held-out photos are
    # measured whole, so a large margin would train at a scale that nobody looks at.
    crop_margin: float = 0.0625
    # Hasler-Suesstrunk colourfulness under which a photo counts as grey and is not trained on.
    min_colorfulness: float = 4.0
    cache: str | None = None  # folder of decoded photos; None is the user's cache folder


@dataclass(frozen=True)
class TrainConfig:
    """How the networks learn. Learning rates are peaks of their schedules."""

    batch_size: int = 16
    # Least area of a random crop as a share of size x size. Below 1 it zooms in: long runs on few
    # photos learn less by heart.
    min_crop_area: float = 1.0
    # Standard deviation, 0 to 1, of the logarithm of a gamma put on each photo's lightness, another
    # one each time. Like small crops it keeps long runs from learning by heart. 0 is none.
    lightness_jitter: float = 0.0
    # Share of the photos, 0 to 1, whose lightness is made that of an old print (`aging.py`).
    old_photo: float = 0.0
    # Teach the generator colour hints: each photo shows it its true colour at some random places.
    hints: bool = False
    # With `hints`, the share of the photos that gets any. Lower it for weights whose plain colours
    # matter more.
    hint_share: float = 0.875
    repeats: int = 1  # times an epoch shows each photo, each time another crop; for tiny sets
    # Photos that an epoch shows, always others of a set that has more; None shows all, `repeats`
    # times. Fewer make epochs short where a set is large: it is measured, drawn and kept earlier.
    epoch_photos: int | None = None
    pretrain_epochs: int = 10
    gan_epochs: int = 5
    pretrain_lr: float = 1e-3  # one-cycle
    # Learning rate of the encoder with L1 alone, as a share of `pretrain_lr`; None is 0.1 with
    # ImageNet weights and 1 without.
    encoder_lr: float | None = None
    weight_decay: float = 0.01  # AdamW, pretraining only
    gan_lr: float = 2e-4  # linear decay to zero over the second half
    gan_betas: tuple[float, float] = (0.5, 0.999)
    lambda_l1: float = 100.0  # weight of L1 beside the GAN loss (pix2pix)
    # Weight of the feature loss beside them, on an ImageNet ResNet-18; 0 does without. GAN only.
    lambda_features: float = 0.0
    objective: str = "bce"  # one of OBJECTIVES
    lambda_penalty: float = 10.0  # weight of the gradient penalty in "wgan-gp"
    discriminator: str = "patch"  # one of DISCRIMINATORS
    # Halvings of "patch" and "multiscale", 1 to 5. A logit sees 16, 34, 70, 142 or 286 pixels.
    discriminator_layers: int = 3
    # D judges means of so many pixels each way, one of DISCRIMINATOR_POOLINGS: the colours of
    # things, not specks in them. It sees so many times as far.
    discriminator_pooling: int = 1
    discriminator_norm: str = "batch"  # one of DISCRIMINATOR_NORMS
    # Epochs of the GAN stage, or a share of one, in which D learns alone before both do.
    discriminator_first: float = 0.0
    freeze_encoder: bool = False  # the GAN leaves the encoder as L1 made it, batch norm too
    ema_decay: float = 0.998  # a step; the averaged generator is what is kept and shown
    # Weights folder or hub name of a generator to go on from, instead of `encoder_weights`. That
    # wants a lower `pretrain_lr`, such as 1e-4 for a few epochs.
    start_weights: str | None = None
    encoder_weights: str = "imagenet"  # one of ENCODER_WEIGHTS
    precision: str = "auto"  # one of PRECISIONS
    checkpoint_minutes: float = 10.0  # long epochs are saved in between, so that a stop costs less
    keep_epochs: bool = False  # also keep the weights of each epoch, to see or choose between them
    seed: int = 0

    def check(self, size: int) -> None:
        """Raises ColorizeError if settings of the GAN do not go together, at photos of `size`."""
        if not self.gan_epochs:
            return
        if self.objective == "wgan-gp" and self.discriminator_norm == "batch":
            raise ColorizeError(
                "wgan-gp punishes the gradient of each photo alone, which batch norm mixes with "
                "the others'; give --discriminator-norm layer or spectral"
            )
        if self.discriminator_first >= self.gan_epochs:
            raise ColorizeError(
                f"{self.discriminator_first:g} epochs of the discriminator alone leave none of "
                f"{self.gan_epochs} to the generator; give more --gan-epochs"
            )
        least = 17  # of a projected D: two places each way at 1/16, for its batch norm
        halvings = {"patch": 0, "multiscale": SCALES - 1}  # of the picture, before a PatchGAN's own
        if self.discriminator in halvings:
            least = 3 * 2 ** (halvings[self.discriminator] + self.discriminator_layers)
        least *= self.discriminator_pooling
        if size < least:
            raise ColorizeError(
                f"photos of {size}x{size} are too small for this discriminator, which needs "
                f"{least} pixels; give a larger --size, fewer --discriminator-layers or less "
                "--discriminator-pooling"
            )


# What may be another when a run goes on. That photos which have moved are the same is checked by
# their names.
MAY_CHANGE = ("source", "cache", "checkpoint_minutes", "keep_epochs")


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names of settings, as plain values, that would be others when a run goes on, but may not."""
    return [
        name
        for name, value in before.items()
        if name not in MAY_CHANGE and name in after and value != after[name]
    ]


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does."""

    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    encoder: str = "resnet18"  # one of ENCODERS

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RunConfig:
        """The reverse of `to_dict`. Raises ColorizeError on unknown names."""
        values = dict(values)
        data = _build(DataConfig, values.pop("data", {}))
        train = dict(values.pop("train", {}))
        if "gan_betas" in train:
            train["gan_betas"] = tuple(train["gan_betas"])
        return _build(cls, {"data": data, "train": _build(TrainConfig, train), **values})


def _build(cls: type, values: dict[str, Any]) -> Any:
    unknown = sorted(set(values) - {f.name for f in dataclasses.fields(cls)})
    if unknown:
        raise ColorizeError(f"unknown setting in {cls.__name__}: {', '.join(unknown)}")
    return cls(**values)
