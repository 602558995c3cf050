"""The options of `train`, and what the values of options may be."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from colorize.config import (
    DISCRIMINATOR_NORMS,
    ENCODER_WEIGHTS,
    ENCODERS,
    OBJECTIVES,
    PRECISIONS,
    DataConfig,
    RunConfig,
    TrainConfig,
)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """The option that names a trained network."""
    parser.add_argument(
        "--weights",
        help="weights folder, or its name on the hub (default: assets/weights/landscapes of a "
        "checkout)",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options of `train`. What is not given stays out of the namespace; see `settings`."""

    def add(name: str, config: type, field: str, **options: object) -> None:
        default = getattr(config(), field)
        text = options.pop("help")
        parser.add_argument(
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
        type=_source,
        metavar="coco|builtin|FOLDER",
        help="photos to train on",
    )
    add("--size", data, "size", type=size, help="side of the training crops, pixels")
    add(
        "--min-crop-area",
        train,
        "min_crop_area",
        type=_share,
        metavar="F",
        help="least area of a random crop, as a share of size x size; 0.4 for long runs",
    )
    add(
        "--lightness-jitter",
        train,
        "lightness_jitter",
        type=_jitter,
        metavar="S",
        help="spread of a random gamma on lightness; 0.25 for long runs",
    )
    add("--batch-size", train, "batch_size", type=_positive, help="photos in a step")
    add("--pretrain-epochs", train, "pretrain_epochs", type=_count, help="epochs with L1 alone")
    add("--gan-epochs", train, "gan_epochs", type=_count, help="epochs with GAN loss and L1")
    add("--encoder", RunConfig, "encoder", choices=ENCODERS, help="the U-Net's encoder")
    add(
        "--start-weights",
        train,
        "start_weights",
        type=_weights,
        metavar="WEIGHTS",
        help="weights folder, or its name on the hub, to go on from; with --pretrain-lr 1e-4 or so",
    )
    add(
        "--encoder-weights",
        train,
        "encoder_weights",
        choices=ENCODER_WEIGHTS,
        help="auto takes ImageNet's if they can be had",
    )
    add(
        "--max-photos",
        data,
        "max_photos",
        type=_positive,
        help="use this many (default: all)",
    )
    add(
        "--val-fraction",
        data,
        "val_fraction",
        type=_fraction,
        metavar="F",
        help="share held out",
    )
    add(
        "--cache",
        data,
        "cache",
        metavar="DIR",
        help="folder for decoded photos (default: ~/.cache/colorize)",
    )
    add(
        "--pretrain-lr",
        train,
        "pretrain_lr",
        type=_rate,
        help="peak learning rate with L1 alone",
    )
    add("--gan-lr", train, "gan_lr", type=_rate, help="learning rate of both networks after it")
    add("--lambda-l1", train, "lambda_l1", type=_rate, help="weight of L1 beside the GAN loss")
    add("--objective", train, "objective", choices=OBJECTIVES, help="GAN objective")
    add(
        "--discriminator-norm",
        train,
        "discriminator_norm",
        choices=DISCRIMINATOR_NORMS,
        help="spectral norm gives calmer colours than batch norm",
    )
    add(
        "--checkpoint-minutes",
        train,
        "checkpoint_minutes",
        type=_rate,
        help="save this often, not only after each epoch",
    )
    add(
        "--keep-epochs",
        train,
        "keep_epochs",
        action="store_true",
        help="keep the weights of each epoch in RUN/epochs",
    )
    add("--precision", train, "precision", choices=PRECISIONS, help="number format")
    add(
        "--seed",
        train,
        "seed",
        type=_count,
        help="decides split, order, crops and initial weights",
    )


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


def _number(text: str, kind: type, low: float, high: float, what: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def text_file(text: str) -> Path:
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder, not a file to write")
    return Path(text)


def onnx_file(text: str) -> Path:
    if Path(text).suffix.lower() != ".onnx":
        raise argparse.ArgumentTypeError(f"{text!r} is not an .onnx file")
    return Path(text)


def picture_file(text: str) -> Path:
    if Path(text).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a .png, .jpg, .webp, .pdf or .svg file")
    return Path(text)


def _source(text: str) -> str:
    # Absolute, so that a run can be resumed from any folder.
    return text if text in ("coco", "builtin") else str(Path(text).absolute())


def _weights(text: str) -> str:
    return str(Path(text).absolute()) if Path(text).is_dir() else text


def size(text: str) -> int:
    return _number(text, int, 32, 8192, "a size in pixels, a whole number from 32 to 8192")


def strength(text: str) -> float:
    return _number(text, float, 0.0, 10.0, "a number from 0 to 10")


def port(text: str) -> int:
    return _number(text, int, 1, 65535, "a port, a whole number from 1 to 65535")


def _positive(text: str) -> int:
    return _number(text, int, 1, 10**9, "a whole number above 0")


def _count(text: str) -> int:
    return _number(text, int, 0, 10**9, "a whole number, 0 or more")


def _fraction(text: str) -> float:
    return _number(text, float, 0.0, 0.9, "a fraction from 0 to 0.9")


def _share(text: str) -> float:
    return _number(text, float, 0.01, 1.0, "a share from 0.01 to 1")


def _jitter(text: str) -> float:
    return _number(text, float, 0.0, 1.0, "a number from 0 to 1")


def _rate(text: str) -> float:
    return _number(text, float, 0.0, 1e6, "a number, 0 or more")
