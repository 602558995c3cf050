"""The command line: `python -m colorize COMMAND`, installed as `colorize` too."""

from __future__ import annotations

import argparse
import importlib.metadata
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

# Nothing here imports torch before a command runs: --help answers at once.
from colorize.arguments import (
    add_settings,
    add_weights,
    onnx_file,
    picture_file,
    port,
    settings,
    size,
    strength,
    text_file,
)
from colorize.config import RunConfig
from colorize.errors import ColorizeError, one_line, printable
from colorize.signals import stop_in_order


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code: 0 done, 1 failed with one line, 2 wrong usage."""
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


def _how_to_go_on(args: argparse.Namespace) -> str:
    if args.command != "train":
        return ""
    from colorize.checkpoint import has_checkpoint

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
    demo.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder to make")
    demo.set_defaults(run=_demo)

    train = commands.add_parser("train", help="pretrain, then train the GAN")
    train.add_argument("--out", type=Path, required=True, metavar="RUN", help="run folder")
    train.add_argument("--resume", action="store_true", help="go on from RUN's last checkpoint")
    add_settings(train)
    train.set_defaults(run=_train)

    predict = commands.add_parser("predict", help="colour photos, or all photos in folders")
    predict.add_argument("photos", type=Path, nargs="+", metavar="PHOTO|FOLDER")
    add_weights(predict)
    predict.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where they go (default: coloured)"
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
    evaluate.add_argument("--data", required=True, metavar="FOLDER|coco|builtin")
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
    from colorize.folders import colorize_files
    from colorize.predict import Colorizer

    colorizer = Colorizer.from_pretrained(
        args.weights, args.size, strength=args.strength, flip=args.flip
    )
    photos, out = args.photos, args.out
    if out is None:
        out = Path("coloured")
        # A shell's `*` names it too, the second time.
        photos = [path for path in photos if path.resolve() != out.resolve()]
    outcome = colorize_files(colorizer, photos, out, args.overwrite, args.compare)
    for line in outcome.notes + outcome.failed:
        _complain(line)
    skipped = (
        f", {outcome.skipped} skipped: they are there already (--overwrite does them again)"
        if outcome.skipped
        else ""
    )
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    print(f"{outcome.colored} coloured in {printable(str(out))}{skipped}{failed}")
    return 1 if outcome.failed else 0


def _app(args: argparse.Namespace) -> None:
    try:
        found = importlib.metadata.version("gradio").split(".")[0] == "6"
    except importlib.metadata.PackageNotFoundError:
        found = False
    if not found:
        raise ColorizeError("the web page needs one more package: pip install 'gradio>=6,<7'")
    from colorize.app import serve

    serve(args.weights, args.host, args.port)


def _export(args: argparse.Namespace) -> None:
    from colorize.export import export_onnx

    export_onnx(args.weights, args.out)
    print(f"{args.out}: input L / 50 - 1, output ab / 110, any size from 32 pixels up")


def _evaluate(args: argparse.Namespace) -> None:
    from colorize.report import evaluate_folder, table

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
    )
    print(table({"coloured": measures}))
