"""The settings of a run as options: for `train`, for a race, and what a race may vary."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import NoReturn

from colorize.config import (
    DISCRIMINATOR_LAYERS,
    DISCRIMINATOR_NORMS,
    DISCRIMINATOR_POOLINGS,
    DISCRIMINATORS,
    ENCODER_WEIGHTS,
    ENCODERS,
    OBJECTIVES,
    PRECISIONS,
    DataConfig,
    RunConfig,
    TrainConfig,
)
from colorize.system.errors import ColorizeError


def add_settings(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Options of `train`, by name. What is not given stays out of the namespace; see `settings`."""
    added = {}

    def add(name: str, config: type, field: str | None = None, **options: object) -> None:
        field = field or name[2:].replace("-", "_")
        default = getattr(config(), field)
        text = options.pop("help")
        added[name[2:]] = parser.add_argument(
            name,
            dest=f"{config.__name__}.{field}",
            default=argparse.SUPPRESS,
            help=text if default is None else f"{text} (default: {default})",
            **({} if options.keys() & {"choices", "action"} else {"metavar": "N"}) | options,
        )

    data, train = DataConfig, TrainConfig
    add(
        "--data",
        data,
        "source",
        type=source,
        metavar="coco|builtin|FOLDER",
        help="photos to train on",
    )
    add("--size", data, type=size, help="side of the training crops, pixels")
    add(
        "--min-crop-area",
        train,
        type=_share,
        metavar="F",
        help="least area of a random crop, as a share of size x size; 0.4 for long runs",
    )
    add(
        "--lightness-jitter",
        train,
        type=_part,
        metavar="S",
        help="spread of a random gamma on lightness; 0.25 for long runs",
    )
    add(
        "--old-photo",
        train,
        type=_part,
        metavar="SHARE",
        help="share of the photos that are shown as old prints: faded, grainy, scratched",
    )
    add(
        "--hints",
        train,
        action="store_true",
        help="teach the generator colour hints, for `predict --hints` and the web page",
    )
    add(
        "--hint-share",
        train,
        type=_part,
        metavar="SHARE",
        help="with --hints, share of the photos that get any",
    )
    add("--batch-size", train, type=positive, help="photos in a step")
    add("--epoch-photos", train, type=positive, help="photos in an epoch (default: all, once)")
    add("--pretrain-epochs", train, type=_count, help="epochs with L1 alone")
    add("--gan-epochs", train, type=_count, help="epochs with GAN loss and L1")
    add("--encoder", RunConfig, choices=ENCODERS, help="the U-Net's encoder")
    add(
        "--start-weights",
        train,
        type=_weights,
        metavar="WEIGHTS",
        help="weights folder, or its name on the hub, to go on from; with --pretrain-lr 1e-4 or so",
    )
    add(
        "--encoder-weights",
        train,
        choices=ENCODER_WEIGHTS,
        help="auto takes ImageNet's if they can be had",
    )
    add("--max-photos", data, type=positive, help="use this many (default: all)")
    add("--val-fraction", data, type=_fraction, metavar="F", help="share held out")
    add(
        "--cache",
        data,
        type=_absolute,
        metavar="DIR",
        help="folder for decoded photos (default: ~/.cache/colorize)",
    )
    add("--pretrain-lr", train, type=_rate, help="peak learning rate with L1 alone")
    add(
        "--encoder-lr",
        train,
        type=_rate,
        metavar="SHARE",
        help="the encoder's share of it; by default 0.1 with ImageNet weights, 1 without",
    )
    add("--weight-decay", train, type=_rate, help="AdamW's, with L1 alone")
    add("--gan-lr", train, type=_rate, help="learning rate of both networks after it")
    add(
        "--ema-decay",
        train,
        type=_decay,
        metavar="D",
        help="a step; the average of the generator's weights is what is kept: 0.9995 for long runs",
    )
    add("--lambda-l1", train, type=_rate, help="weight of L1 beside the GAN loss")
    add(
        "--lambda-features",
        train,
        type=_rate,
        help="weight of the feature loss beside them; its ResNet-18 is downloaded on first use",
    )
    add("--objective", train, choices=OBJECTIVES, help="GAN objective")
    add("--lambda-penalty", train, type=_rate, help="weight of the gradient penalty in wgan-gp")
    add(
        "--discriminator",
        train,
        choices=DISCRIMINATORS,
        help="one PatchGAN, one for each of three scales, or one on features of a ResNet-18",
    )
    add(
        "--discriminator-layers",
        train,
        type=int,
        choices=DISCRIMINATOR_LAYERS,
        help="halvings of a PatchGAN; it judges patches of 16, 34, 70, 142 or 286 pixels",
    )
    add(
        "--discriminator-pooling",
        train,
        type=int,
        choices=DISCRIMINATOR_POOLINGS,
        help="the discriminator judges means of so many pixels each way, blind to specks",
    )
    add(
        "--discriminator-norm",
        train,
        choices=DISCRIMINATOR_NORMS,
        help="spectral norm gives calmer colours than batch norm; wgan-gp takes layer or spectral",
    )
    add(
        "--discriminator-first",
        train,
        type=_rate,
        metavar="EPOCHS",
        help="GAN epochs, or a share of one, in which the discriminator learns alone",
    )
    add(
        "--freeze-encoder",
        train,
        action="store_true",
        help="let the GAN train the decoder alone",
    )
    add(
        "--checkpoint-minutes", train, type=_rate, help="save this often, not only after each epoch"
    )
    add(
        "--keep-epochs",
        train,
        action="store_true",
        help="keep the weights of each epoch in RUN/epochs",
    )
    add("--precision", train, choices=PRECISIONS, help="number format")
    add("--seed", train, type=_count, help="decides split, order, crops and initial weights")
    return added


def settings(args: argparse.Namespace, base: RunConfig) -> RunConfig:
    """`base` with the options that were given."""
    given: dict[str, dict[str, object]] = {}
    for name, value in vars(args).items():
        if "." in name:
            config, field = name.split(".")
            given.setdefault(config, {})[field] = value
    return replace(
        base,
        data=replace(base.data, **given.get("DataConfig", {})),
        train=replace(base.train, **given.get("TrainConfig", {})),
        **given.get("RunConfig", {}),
    )


class _Strict(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ColorizeError(message.removeprefix("argument --"))


# What the variants of a race have in common, and why.
_SHARED = {
    "data": "all learn from the same photos",
    "cache": "all learn from the same photos",
    "max-photos": "all learn from the same photos",
    "val-fraction": "all are measured on the same photos",
    "seed": "each is repeated with --seeds",
    "pretrain-epochs": "all have the same start",
    "gan-epochs": "--minutes or --photos decides how long each learns",
    "epoch-photos": "--minutes or --photos decides how long each learns",
    "checkpoint-minutes": "it changes no result",
    "keep-epochs": "it changes no result",
}


def variants(texts: Sequence[str], base: RunConfig) -> dict[str, RunConfig]:
    """What a race compares: name to settings, in the order given.

    A text holds options of `train` without their dashes, apart by spaces: `NAME=VALUE`, or
    `NAME=VALUE,VALUE`. It stands for every combination of its values; several texts add up.
    "default" changes nothing.

    Raises:
        ColorizeError: no such setting or value, one that has to be the same for all, settings that
            do not go together, the same variant under two names, or fewer than two variants.
    """
    parser = _Strict(add_help=False, allow_abbrev=False)
    actions = add_settings(parser)
    found: dict[str, RunConfig] = {}
    for text in texts:
        axes = [_axis(word, actions) for word in text.split() if word != "default"]
        names = [axis[0][0] for axis in axes]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ColorizeError(f"{text!r} names {twice.pop()} twice; give NAME=VALUE,VALUE")
        for pairs in product(*axes):
            name = " ".join("=".join(pair) for pair in pairs) or "default"
            changes = argparse.Namespace()
            for option, value in pairs:
                if actions[option].nargs == 0:  # an option that is given or not
                    setattr(changes, actions[option].dest, value == "yes")
                else:
                    parser.parse_args([f"--{option}={value}"], changes)
            config = settings(changes, base)
            try:
                config.train.check(config.data.size)
            except ColorizeError as error:
                raise ColorizeError(f"{name}: {error}") from error
            same = [other for other in found if found[other] == config and other != name]
            if same:
                raise ColorizeError(f"{same[0]!r} and {name!r} are the same; leave one out")
            found[name] = config
    if len(found) < 2:
        raise ColorizeError(
            "a race needs two variants or more: objective=bce,hinge, or also --vary default"
        )
    return found


def _axis(word: str, actions: dict[str, argparse.Action]) -> list[tuple[str, str]]:
    """`NAME=VALUE,VALUE` as pairs of both."""
    name, equals, values = word.partition("=")
    name = name.replace("_", "-")
    if not equals:
        raise ColorizeError(f"{word!r} is not NAME=VALUE, NAME=VALUE,VALUE or default")
    if name in _SHARED:
        raise ColorizeError(f"{name} cannot be varied: {_SHARED[name]}")
    if name not in actions:
        near = [other for other in actions if name and name in other]
        near = near or get_close_matches(name, actions)
        hint = f"; is it {' or '.join(near)}?" if near else "; `train --help` lists all settings"
        raise ColorizeError(f"no setting {name!r}{hint}")
    pairs = [(name, value) for value in dict.fromkeys(values.split(","))]
    for _, value in pairs:
        if not value:
            raise ColorizeError(f"{word!r} lacks a value")
        if actions[name].nargs == 0 and value not in ("yes", "no"):
            raise ColorizeError(f"{name}: {value!r} is neither yes nor no")
    return pairs


def in_range(kind: type, low: float, high: float, what: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return convert


size = in_range(int, 32, 8192, "a size in pixels, a whole number from 32 to 8192")
positive = in_range(int, 1, 10**9, "a whole number above 0")
_count = in_range(int, 0, 10**9, "a whole number, 0 or more")
_fraction = in_range(float, 0.0, 0.9, "a fraction from 0 to 0.9")
_share = in_range(float, 0.01, 1.0, "a share from 0.01 to 1")
_part = in_range(float, 0.0, 1.0, "a number from 0 to 1")
_decay = in_range(float, 0.0, 0.999999, "a number from 0 to below 1")
_rate = in_range(float, 0.0, 1e6, "a number, 0 or more")


def some_path(text: str) -> Path:
    if not text:  # a shell's variable that is not set; as a path it would be this folder
        raise argparse.ArgumentTypeError("an empty name")
    return Path(text)


def source(text: str) -> str:
    # Absolute, so that a run can be resumed from any folder.
    return text if text in ("coco", "builtin") else _absolute(text)


def some_name(text: str) -> str:
    some_path(text)
    return text


def _absolute(text: str) -> str:
    return str(some_path(text).absolute())


def _weights(text: str) -> str:
    return _absolute(text) if some_path(text).is_dir() else text
