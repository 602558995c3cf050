"""The command line: `python -m colorize COMMAND`, installed as `colorize` too."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from colorize import __version__
from colorize.config import SMOOTHNESS, RunConfig
from colorize.options import (
    add_settings,
    in_range,
    positive,
    settings,
    size,
    some_name,
    some_path,
    source,
    variants,
)
from colorize.system.errors import ColorizeError, one_line, printable
from colorize.system.files import real_path
from colorize.system.signals import stop_in_order


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 done, 1 failed with one line, 2 wrong usage."""
    _have_streams()
    # What Pillow has to say about odd metadata of a file that it reads all the same.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    try:
        args, unknown = build_parser().parse_known_args(argv)
        if unknown:  # argparse would point to the help of all commands
            args.usage(f"unrecognized arguments: {' '.join(unknown)}")
    except SystemExit:  # --help, or wrong usage
        _nobody_reads()
        raise
    stop_in_order()
    try:
        code = args.run(args) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        _complain(f"stopped{_how_to_go_on(args)}")
        return 130
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141  # what a shell makes of a program that SIGPIPE ends
        if (line := one_line(error)) is None:
            raise
        _complain(line)
    return 1


def _nobody_reads() -> bool:
    """Whether standard output goes to a program that has ended, as `head` does early."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes at its end
        return True
    return False


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
    if args.command == "race":
        return "; the same command goes on, and what is finished is not run again"
    if args.command == "predict" and not args.overwrite:
        return "; the same command goes on"
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
    parser.add_argument("--version", action="version", version=f"colorize {__version__}")
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

    _add_race(commands)

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
        "--smoothness",
        type=smoothness,
        default=SMOOTHNESS,
        help="how much neighbours of the same lightness agree in colour: 0 leaves it to the "
        f"network (default: {SMOOTHNESS:g})",
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
        help="colours of places in the one PHOTO, which is coloured again if it was before, JSON: "
        '[{"x": 120, "y": 80, "color": "#a03020"}]',
    )
    predict.set_defaults(run=_predict)

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
    evaluate.add_argument("--data", type=some_name, required=True, metavar="FOLDER|coco|builtin")
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
        "--smoothness",
        type=smoothness,
        default=0.0,
        help=f"of the colours, as in predict, which takes {SMOOTHNESS:g} (default: 0)",
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
    for command in commands.choices.values():
        command.set_defaults(usage=command.error)
    return parser


def _add_race(commands: Any) -> None:
    race = commands.add_parser("race", help="compare variants of training, with several seeds")
    race.add_argument(
        "--out", type=some_path, required=True, metavar="FOLDER", help="for all that comes out"
    )
    race.add_argument(
        "--vary",
        action="append",
        required=True,
        metavar="SETTINGS",
        help="settings of train, as objective=bce,hinge or 'objective=hinge gan-lr=1e-4,2e-4' "
        "(each with each) or default (nothing changed); may be given again, for more variants",
    )
    long = race.add_mutually_exclusive_group()
    long.add_argument(
        "--minutes",
        type=in_range(float, 0.001, 1e5, "a number of minutes, 0.001 or more"),
        metavar="N",
        help="of training, for each variant and seed (default: 10)",
    )
    long.add_argument("--photos", type=positive, metavar="N", help="or that many photos for each")
    race.add_argument(
        "--seeds", type=positive, default=2, metavar="N", help="runs of each variant (default: 2)"
    )
    race.add_argument(
        "--stage",
        choices=("gan", "pretrain"),
        default="gan",
        help="what is raced: the GAN, after L1 that all share, or L1 (default: gan)",
    )
    race.add_argument(
        "--val", type=source, metavar="FOLDER", help="measure on these, not on those held out"
    )
    add_settings(race)
    race.set_defaults(run=_race)


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


def _race(args: argparse.Namespace) -> int:
    base = settings(args, RunConfig())
    for name in ("gan_epochs", "epoch_photos"):
        if f"TrainConfig.{name}" in vars(args):
            option = name.replace("_", "-")
            args.usage(f"argument --{option}: --minutes or --photos decides how long a race is")
    try:
        compared = variants(args.vary, base)
    except ColorizeError as error:
        args.usage(f"argument --vary: {error}")
    from colorize.race import Race, run_race

    minutes = None if args.photos else args.minutes or 10.0
    job = (minutes, args.photos, args.seeds, args.stage, args.val)
    record = run_race(Race(base, compared, args.out, *job))
    if record["results"]:
        print((args.out / "table.md").read_text(encoding="utf-8"), end="")
    for name, reason in record["failed"].items():
        _complain(f"{name}: {reason}")
    return 1 if record["failed"] else 0


def _predict(args: argparse.Namespace) -> int:
    from colorize.folders import RESULTS, Outcome, colorize_files
    from colorize.hints import read_hints
    from colorize.photos.read import open_photo
    from colorize.predict import Colorizer

    if args.hints and (len(args.photos) > 1 or os.path.isdir(args.photos[0])):
        args.usage("argument --hints: they are of one photo; give one, and no folder")
    colorizer = Colorizer.from_pretrained(
        args.weights,
        args.size,
        strength=args.strength,
        flip=args.flip,
        smoothness=args.smoothness,
    )
    outcome, photos, out = Outcome(), args.photos, args.out or Path(RESULTS)
    if args.out is None or len(photos) > 1:  # a shell's `*` names it too, the second time
        photos = [path for path in photos if real_path(path) != real_path(out)]
        if args.out and len(photos) < len(args.photos):
            outcome.notes.append(f"{out}: passed over, it is the folder for results")
    hints = read_hints(args.hints, open_photo(args.photos[0]).size) if args.hints else None
    if hints and not colorizer.generator.hints:
        which = args.weights or "the weights that come along"
        raise ColorizeError(f"{which}: know no colour hints; train with --hints")
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
    compared = f", {outcome.compared} of them compared now" if outcome.compared else ""
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    print(f"{outcome.colored} coloured in {printable(str(out))}{skipped}{compared}{failed}")
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
        major, minor = map(int, importlib.metadata.version("gradio").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        major, minor = 0, 0
    if major != 6 or minor < 22:  # older ones fetch a script from elsewhere, or warn
        raise ColorizeError("the web page needs one more package: pip install 'gradio>=6.22,<7'")
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
        smoothness=args.smoothness,
        old_photo=args.old_photo,
    )
    print(table({"coloured": measures}))


def add_weights(parser: argparse.ArgumentParser) -> None:
    """The option that names a trained network."""
    parser.add_argument(
        "--weights",
        type=some_name,
        help="weights folder, or its name on the hub (default: those that come along)",
    )


strength = in_range(float, 0.0, 10.0, "a number from 0 to 10")
smoothness = in_range(float, 0.0, 1000.0, "a number from 0 to 1000")
port = in_range(int, 1, 65535, "a port, a whole number from 1 to 65535")


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
