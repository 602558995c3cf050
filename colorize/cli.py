"""The command line: `python -m colorize COMMAND`, installed as `colorize` too."""

from __future__ import annotations

import argparse
import errno
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

# Nothing here imports torch before a command runs: --help answers at once.
from colorize.config import (
    ENCODER_WEIGHTS,
    ENCODERS,
    OBJECTIVES,
    PRECISIONS,
    DataConfig,
    RunConfig,
    TrainConfig,
)
from colorize.errors import ColorizeError


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 done, 1 failed with one line, 2 wrong usage."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args) or 0
    except ColorizeError as error:
        print(f"colorize: {error}", file=sys.stderr)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            reason = "no space left on the disk; nothing that was finished before is lost"
        else:
            reason = error.strerror or str(error)
        print(f"colorize: {error.filename or ''}: {reason}".replace(" : ", " "), file=sys.stderr)
    except KeyboardInterrupt:
        hint = "; train --resume goes on from the last epoch" if args.command == "train" else ""
        print(f"colorize: stopped{hint}", file=sys.stderr)
        return 130
    except (RuntimeError, MemoryError) as error:
        # torch.OutOfMemoryError by its name: importing torch for it would take seconds.
        if not isinstance(error, MemoryError) and type(error).__name__ != "OutOfMemoryError":
            raise
        print("colorize: out of memory; try a smaller --batch-size or --size", file=sys.stderr)
    return 1


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="colorize", description="Colourise grey photos with a GAN."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train on the built-in photos, in minutes, no network")
    demo.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder to make")
    demo.set_defaults(run=_demo)

    train = commands.add_parser("train", help="pretrain, then train the GAN")
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    train.add_argument("--resume", action="store_true", help="go on from RUN's last checkpoint")
    _add_settings(train)
    train.set_defaults(run=_train)

    predict = commands.add_parser("predict", help="colour photos, or all photos in folders")
    predict.add_argument("photos", type=Path, nargs="+", metavar="PHOTO|FOLDER")
    predict.add_argument("--weights", required=True, help="weights folder, or its name on the hub")
    predict.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    predict.add_argument("--size", type=_size, help="working size (default: as trained)")
    predict.set_defaults(run=_predict)

    evaluate = commands.add_parser("evaluate", help="measure weights on a folder of colour photos")
    evaluate.add_argument("--data", required=True, metavar="FOLDER|coco|builtin")
    evaluate.add_argument("--weights", required=True, help="weights folder, or its name on the hub")
    evaluate.add_argument("--size", type=_size, default=256, help="side in pixels (default: 256)")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="also write the measures here")
    evaluate.add_argument("--grid", type=Path, metavar="FILE", help="also draw eight photos here")
    evaluate.set_defaults(run=_evaluate)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Options of `train`. What is not given stays out of the namespace; see `_settings`."""

    def add(name: str, config: type, field: str, **options: object) -> None:
        default = getattr(config(), field)
        text = options.pop("help")
        parser.add_argument(
            name,
            dest=f"{config.__name__}.{field}",
            default=argparse.SUPPRESS,
            help=f"{text} (default: {default})",
            **options,
        )

    data, train = DataConfig, TrainConfig
    add("--data", data, "source", metavar="coco|builtin|FOLDER", help="photos to train on")
    add("--size", data, "size", type=_size, help="side of the training crops, pixels")
    add("--batch-size", train, "batch_size", type=_positive, help="photos in a step")
    add("--pretrain-epochs", train, "pretrain_epochs", type=_count, help="epochs with L1 alone")
    add("--gan-epochs", train, "gan_epochs", type=_count, help="epochs with GAN loss and L1")
    add("--encoder", RunConfig, "encoder", choices=ENCODERS, help="the U-Net's encoder")
    add(
        "--encoder-weights",
        train,
        "encoder_weights",
        choices=ENCODER_WEIGHTS,
        help="auto takes ImageNet's if they can be had",
    )
    add("--max-photos", data, "max_photos", type=_positive, metavar="N", help="use this many")
    add("--val-fraction", data, "val_fraction", type=_fraction, metavar="F", help="share held out")
    add("--cache", data, "cache", metavar="DIR", help="folder for decoded photos")
    add("--pretrain-lr", train, "pretrain_lr", type=_rate, help="peak learning rate with L1 alone")
    add("--gan-lr", train, "gan_lr", type=_rate, help="learning rate of both networks after it")
    add("--lambda-l1", train, "lambda_l1", type=_rate, help="weight of L1 beside the GAN loss")
    add("--objective", train, "objective", choices=OBJECTIVES, help="GAN objective")
    add("--precision", train, "precision", choices=PRECISIONS, help="number format")
    add(
        "--seed", train, "seed", type=_count, help="decides split, order, crops and initial weights"
    )


def _settings(args: argparse.Namespace, base: RunConfig) -> RunConfig:
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


def _demo(args: argparse.Namespace) -> None:
    from colorize.run import run_demo

    run_demo(args.out)


def _train(args: argparse.Namespace) -> None:
    from colorize.run import load_config, run_training

    if not args.resume:
        run_training(_settings(args, RunConfig()), args.out)
        return
    config = load_config(args.out)
    wanted = _settings(args, config).to_dict()
    kept = config.to_dict()
    changed = [
        name
        for old, new in (
            (kept, wanted),
            *((kept[part], wanted[part]) for part in ("data", "train")),
        )
        for name in old
        if name not in ("data", "train") and old[name] != new[name]
    ]
    if changed:
        raise ColorizeError(
            f"{args.out}: a resumed run keeps its settings, but {', '.join(changed)} would change; "
            "leave those options out, or start in another folder"
        )
    run_training(config, args.out, resume=True)


def _predict(args: argparse.Namespace) -> int:
    from colorize.predict import Colorizer, colorize_files

    failed = colorize_files(
        Colorizer.from_pretrained(args.weights, args.size), args.photos, args.out
    )
    for reason in failed:
        print(f"colorize: {reason}", file=sys.stderr)
    return 1 if failed else 0


def _evaluate(args: argparse.Namespace) -> None:
    from colorize.run import evaluate_folder, table

    measures = evaluate_folder(args.data, args.weights, args.size, args.json, args.grid)
    print(table({"coloured": measures}))


def _number(text: str, kind: type, low: float, high: float, what: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return value


def _size(text: str) -> int:
    return _number(text, int, 32, 8192, "a size in pixels, a whole number from 32 to 8192")


def _positive(text: str) -> int:
    return _number(text, int, 1, 10**9, "a whole number above 0")


def _count(text: str) -> int:
    return _number(text, int, 0, 10**9, "a whole number, 0 or more")


def _fraction(text: str) -> float:
    return _number(text, float, 0.0, 0.9, "a fraction from 0 to 0.9")


def _rate(text: str) -> float:
    return _number(text, float, 0.0, 1e6, "a number, 0 or more")
