"""The command line: `python -m colorize COMMAND`, installed as `colorize` too."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from colorize.config import (
    DISCRIMINATOR_LAYERS,
    DISCRIMINATOR_NORMS,
    DISCRIMINATORS,
    ENCODER_WEIGHTS,
    ENCODERS,
    OBJECTIVES,
    PRECISIONS,
    DataConfig,
    RunConfig,
    TrainConfig,
)
from colorize.system.errors import ColorizeError, one_line, printable
from colorize.system.signals import stop_in_order


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 done, 1 failed with one line, 2 wrong usage."""
    _have_streams()
    # What Pillow has to say about odd metadata of a file that it reads all the same.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    args = build_parser().parse_args(argv)
    stop_in_order()
    try:
        return args.run(args) or 0
    except KeyboardInterrupt:
        _complain(f"stopped{_how_to_go_on(args)}")
        return 130
    except Exception as error:
        if (line := one_line(error)) is None:
            raise
        _complain(line)
    return 1


def _have_streams() -> None:
    """Standard streams that are there and take any text.

    A shell may close one (2>&-); the next file that is opened would then be what is written to.
    And a terminal may not know all letters of a file's name.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            stream = open(number, "r" if name == "stdin" else "w", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _how_to_go_on(args: argparse.Namespace) -> str:
    if args.command != "train":
        return ""
    from colorize.training.checkpoint import has_checkpoint

    if not has_checkpoint(args.out):
        return "; there is no checkpoint yet, the same command starts again"
    return "; train --resume goes on from the last checkpoint"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of the whole usage."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _complain(line: str) -> None:
    print(f"colorize: {printable(line)}", file=sys.stderr)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = _Parser(prog="colorize", description="Colourise grey photos with a GAN.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="train on the built-in photos, in minutes, no network")
    demo.add_argument(
        "--out", type=some_path, required=True, metavar="RUN", help="run folder to make"
    )
    demo.set_defaults(run=_demo)

    train = commands.add_parser("train", help="pretrain, then train the GAN")
    train.add_argument("--out", type=some_path, required=True, metavar="RUN", help="run folder")
    train.add_argument("--resume", action="store_true", help="go on from RUN's last checkpoint")
    add_settings(train)
    train.set_defaults(run=_train)

    predict = commands.add_parser("predict", help="colour photos, or all photos in folders")
    predict.add_argument("photos", type=some_path, nargs="+", metavar="PHOTO|FOLDER")
    add_weights(predict)
    predict.add_argument(
        "--out", type=some_path, metavar="FOLDER", help="where they go (default: coloured)"
    )
    predict.add_argument(
        "--size", type=size, help="shorter side at which the network looks, pixels"
    )
    predict.add_argument(
        "--strength",
        type=strength,
        default=1.0,
        help="of the colours: 0 is grey, 1 as predicted, above 1 more (default: 1)",
    )
    predict.add_argument(
        "--flip", action="store_true", help="look at the mirrored photo too: calmer colours"
    )
    predict.add_argument(
        "--overwrite", action="store_true", help="colour again what FOLDER has already"
    )
    predict.add_argument(
        "--compare", action="store_true", help="also write grey and coloured side by side"
    )
    predict.add_argument(
        "--hints",
        type=some_path,
        metavar="FILE",
        help='colours of places in the one PHOTO, JSON: [{"x": 120, "y": 80, "color": "#a03020"}]',
    )
    predict.set_defaults(run=_predict, usage=predict.error)

    app = commands.add_parser("app", help="a web page that colours photos")
    add_weights(app)
    app.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine)",
    )
    app.add_argument("--port", type=port, help="default: the first free one from 7860 on")
    app.set_defaults(run=_app)

    export = commands.add_parser("export", help="write weights as ONNX, for other programs")
    add_weights(export)
    export.add_argument("--out", type=onnx_file, required=True, metavar="FILE.onnx")
    export.set_defaults(run=_export)

    evaluate = commands.add_parser("evaluate", help="measure weights on a folder of colour photos")
    evaluate.add_argument("--data", type=_given, required=True, metavar="FOLDER|coco|builtin")
    add_weights(evaluate)
    evaluate.add_argument(
        "--size",
        type=size,
        default=256,
        help="side of the squares that are compared, pixels (default: 256)",
    )
    evaluate.add_argument(
        "--working-size", type=size, metavar="N", help="side at which the network sees them"
    )
    evaluate.add_argument(
        "--strength", type=strength, default=1.0, help="of the colours, as in predict (default: 1)"
    )
    evaluate.add_argument(
        "--old-photo", action="store_true", help="show the network each photo as an old print"
    )
    evaluate.add_argument(
        "--json", type=text_file, metavar="FILE", help="also write the measures here"
    )
    evaluate.add_argument(
        "--csv", type=text_file, metavar="FILE", help="also write the measures of each photo here"
    )
    evaluate.add_argument(
        "--grid", type=picture_file, metavar="FILE", help="also draw eight photos here"
    )
    evaluate.add_argument(
        "--best-worst",
        type=picture_file,
        metavar="FILE",
        help="also draw the ten best and the ten worst here",
    )
    evaluate.add_argument(
        "--perceptual", action="store_true", help="also FID and LPIPS; downloads their networks"
    )
    evaluate.set_defaults(run=_evaluate)
    return parser


def _demo(args: argparse.Namespace) -> None:
    from colorize.run import run_demo

    run_demo(args.out)


def _train(args: argparse.Namespace) -> None:
    from torch import distributed

    _start_or_go_on(args)
    # gloo's threads would look for Python after it has gone; one in eight processes aborted. Not
    # after an error: the others may wait for this process, which would then wait for them.
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _start_or_go_on(args: argparse.Namespace) -> None:
    from colorize.run import changed_settings, load_config, run_training

    if not args.resume:
        run_training(settings(args, RunConfig()), args.out)
        return
    config = load_config(args.out)
    wanted = settings(args, config)
    changed = changed_settings(config, wanted)
    if changed:
        raise ColorizeError(
            f"{args.out}: a resumed run keeps its settings, but {', '.join(changed)} would change; "
            "leave those options out, or start in another folder"
        )
    run_training(wanted, args.out, resume=True)


def _predict(args: argparse.Namespace) -> int:
    from colorize.folders import Outcome, colorize_files
    from colorize.hints import read_hints
    from colorize.photos.read import open_photo
    from colorize.predict import Colorizer

    if args.hints and (len(args.photos) > 1 or args.photos[0].is_dir()):
        args.usage("argument --hints: they are of one photo; give one, and no folder")
    colorizer = Colorizer.from_pretrained(
        args.weights, args.size, strength=args.strength, flip=args.flip
    )
    photos, out = args.photos, args.out
    if out is None:
        out = Path("coloured")
        # A shell's `*` names it too, the second time.
        photos = [path for path in photos if path.resolve() != out.resolve()]
    hints = read_hints(args.hints, open_photo(args.photos[0]).size) if args.hints else ()
    if hints and not colorizer.generator.hints:
        which = args.weights or "the weights that come along"
        raise ColorizeError(f"{which}: know no colour hints; train with --hints")
    outcome = Outcome()
    try:
        colorize_files(colorizer, photos, out, args.overwrite, args.compare, outcome, hints)
    finally:  # after a stop, too
        for line in _once(outcome.notes) + outcome.failed:
            _complain(line)
    skipped = (
        f", {outcome.skipped} skipped: they are there already (--overwrite does them again)"
        if outcome.skipped
        else ""
    )
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    print(f"{outcome.colored} coloured in {printable(str(out))}{skipped}{failed}")
    return 1 if outcome.failed else 0


def _once(notes: Sequence[str]) -> list[str]:
    """What is noted of many photos, as one line each; a note begins with the photo's name."""
    alike: dict[str, list[str]] = {}
    for note in notes:
        alike.setdefault(note.rpartition(": ")[2], []).append(note)
    more = ((first, len(rest)) for first, *rest in alike.values())
    return [f"{first} (and so for {count} more)" if count else first for first, count in more]


def _app(args: argparse.Namespace) -> None:
    try:
        found = importlib.metadata.version("gradio").split(".")[0] == "6"
    except importlib.metadata.PackageNotFoundError:
        found = False
    if not found:
        raise ColorizeError("the web page needs one more package: pip install 'gradio>=6,<7'")
    from colorize.web.server import serve

    serve(args.weights, args.host, args.port)


def _export(args: argparse.Namespace) -> None:
    from colorize.pretrained import export_onnx

    hints = export_onnx(args.weights, args.out)
    also = ", hints beside it if you have some" if hints else ""
    print(f"{args.out}: input L / 50 - 1{also}, output ab / 110, any size from 32 pixels up")


def _evaluate(args: argparse.Namespace) -> None:
    from colorize.evaluate import evaluate_folder, table

    measures = evaluate_folder(
        args.data,
        args.weights,
        args.size,
        summary=args.json,
        each=args.csv,
        picture=args.grid,
        best_worst=args.best_worst,
        perceptual=args.perceptual,
        working_size=args.working_size,
        strength=args.strength,
        old_photo=args.old_photo,
    )
    print(table({"coloured": measures}))


def add_weights(parser: argparse.ArgumentParser) -> None:
    """The option that names a trained network."""
    parser.add_argument(
        "--weights",
        type=_given,
        help="weights folder, or its name on the hub (default: those that come along)",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options of `train`. What is not given stays out of the namespace; see `settings`."""

    def add(name: str, config: type, field: str | None = None, **options: object) -> None:
        field = field or name[2:].replace("-", "_")
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
    add("--batch-size", train, type=_positive, help="photos in a step")
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
    add("--max-photos", data, type=_positive, help="use this many (default: all)")
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
    add("--gan-lr", train, type=_rate, help="learning rate of both networks after it")
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


def _number(kind: type, low: float, high: float, what: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return value

    return convert


size = _number(int, 32, 8192, "a size in pixels, a whole number from 32 to 8192")
strength = _number(float, 0.0, 10.0, "a number from 0 to 10")
port = _number(int, 1, 65535, "a port, a whole number from 1 to 65535")
_positive = _number(int, 1, 10**9, "a whole number above 0")
_count = _number(int, 0, 10**9, "a whole number, 0 or more")
_fraction = _number(float, 0.0, 0.9, "a fraction from 0 to 0.9")
_share = _number(float, 0.01, 1.0, "a share from 0.01 to 1")
_part = _number(float, 0.0, 1.0, "a number from 0 to 1")
_rate = _number(float, 0.0, 1e6, "a number, 0 or more")


def some_path(text: str) -> Path:
    if not text:  # a shell's variable that is not set; as a path it would be this folder
        raise argparse.ArgumentTypeError("an empty name")
    return Path(text)


def text_file(text: str) -> Path:
    if some_path(text).is_dir():
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
    return text if text in ("coco", "builtin") else _absolute(text)


def _given(text: str) -> str:
    some_path(text)
    return text


def _absolute(text: str) -> str:
    return str(some_path(text).absolute())


def _weights(text: str) -> str:
    return _absolute(text) if some_path(text).is_dir() else text
