"""All that only a GPU can settle, in one go: tests, races, shares, photos, a training, a notebook.

    python benchmarks/gpu.py                         # make gpu
    python benchmarks/gpu.py --device cpu --quick    # a rehearsal: make gpu DEVICE=cpu QUICK=1

The parts run in the order of what matters, each in a process of its own with so many seconds. What
a part has written counts, also if it then fails or runs out of time, and the next one begins. What
became of each is in gpu.json from then on, with pictures beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

from colorize.system.files import write_json
from colorize.system.machine import commit, describe

PROJECT = Path(__file__).parent.parent
BENCHMARKS = PROJECT / "benchmarks"
ENOUGH = 15  # seconds: with less there is no use in starting a part
GRACE = 10  # seconds, for a part that is out of time, to write what it has
PATIENCE = {"cuda": 1, "cpu": 10}  # times the seconds of a part: a rehearsal is not hurried


@dataclass
class Part:
    """One process, and what to keep of what it leaves."""

    name: str
    seconds: int
    command: list[Any]
    collect: Callable[[], dict[str, Any]]
    needs: tuple[str, ...] = ()  # packages


class Plan:
    """The parts, at full size or small, and where they write.

    Args:
        args: see `main`.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.out, self.work = args, args.out, args.work
        self.rows: list[dict[str, Any]] = []  # those of all races, as in results.json

    def parts(self) -> list[Part]:
        """In the order of what matters."""
        if self.args.quick:
            # The same parts, as small as they can be; one race instead of five.
            races = [self.race("race", 120, 32, (2,), "--quick", "--only", "steps", "epochs")]
            ablated = [self.ablate("gan", 32, 2)]
        else:
            steps = ("--only", "steps", "--rounds", 1)
            races = [
                self.race(
                    "race", 100, 256, (32,), "--only", "prepare", "steps", "epochs", "--rounds", 2
                ),
                self.race("race_128", 40, 128, (64,), "--only", "epochs", "--rounds", 2),
                self.race("race_batches", 75, 256, (16, 64, 128), *steps),
                self.race("race_large_epochs", 75, 256, (128,), "--only", "epochs", "--rounds", 1),
                self.race("colorizers", 60, 256, (32,), "--only", "colorizers"),
            ]
            ablated = [self.ablate("pretrain", 256, 64), self.ablate("gan", 256, 64)]
        race, *others = races
        # Compiling takes a minute a precision, and is not what the rest depends on.
        tests, compiling = self.tests("tests", "not compile"), self.tests("compiling", "compile")
        return [
            tests, race, self.where(), *others[:1], self.training(), *others[1:],
            self.notebook(), *ablated, compiling,
        ]  # fmt: skip

    def tests(self, name: str, which: str) -> Part:
        file = self.work / f"{name}.xml"
        command = [sys.executable, "-m", "pytest", PROJECT / "tests" / "test_gpu.py", "-v", "-rs"]
        command += [f"--junitxml={file}", "-p", "no:cacheprovider"]
        command += ["-k", f"{which} and not bf16 and not exported" if self.args.quick else which]
        return Part(name, 150, command, lambda: test_results(file), ("pytest", "hypothesis"))

    def race(self, name: str, seconds: int, size: int, batch: tuple[int, ...], *more: Any) -> Part:
        """`bench.py`: ours and the reference."""
        file = self.work / f"{name}.json"
        command = [sys.executable, BENCHMARKS / "bench.py", "--device", self.args.device]
        command += ["--size", size, "--batch-size", *batch, "--out", file, *more]

        def collect() -> dict[str, Any]:
            suffix = f"_{size}" if len(batch) > 1 else f"_{size}_batch{batch[0]}"
            for row in json.loads(file.read_text())["rows"]:
                at = "" if row["name"].startswith("colorizer") else suffix
                self.rows.append(row | {"name": row["name"] + at})
            return {}

        return Part(name, seconds, command, collect)

    def where(self) -> Part:
        """`where.py`: shares of a step, and of the matrix-product rate."""
        file = self.work / "where.json"
        command = [sys.executable, BENCHMARKS / "where.py", "--json", file]
        if self.args.quick:
            command += ["--size", 32, "--batch-size", 2, "--precisions", "fp32", "--rounds", 1]
        else:
            command += ["--batch-size", 32, 128, "--precisions", "bf16", "--rounds", 3]
        return Part("where", 60, command, lambda: json.loads(file.read_text()))

    def ablate(self, stage: str, size: int, batch: int) -> Part:
        """`ablate.py`: channels_last, fused optimizers, torch.compile, each against none of it."""
        file = self.work / f"ablate-{stage}.json"
        command = [sys.executable, BENCHMARKS / "ablate.py", "--stage", stage, "--json", file]
        command += ["--size", size, "--batch-size", batch, "--rounds", 1 if self.args.quick else 3]
        if self.args.quick:
            command += ["--only", "contiguous memory", "Adam, a loop"]
        else:
            command += ["--compile"]
        name = f"ablate_{stage}"
        return Part(name, 90, command, lambda: json.loads(file.read_text()))

    def training(self) -> Part:
        """A run of the main notebook's length on photos, or else the demo."""
        run = self.work / "run"
        command = [sys.executable, "-m", "colorize"]
        if self.args.quick:
            command += ["train", "--data", "builtin", "--size", 32, "--batch-size", 4]
            command += ["--pretrain-epochs", 1, "--gan-epochs", 1, "--encoder-weights", "none"]
        elif self.args.photos:
            command += ["train", "--data", self.args.photos, "--size", 128, "--max-photos", 10_000]
            command += ["--pretrain-epochs", 10, "--gan-epochs", 3, "--batch-size", 32]
            if self.args.start:
                command += ["--start-weights", self.args.start]
                if json.loads((self.args.start / "config.json").read_text()).get("hints"):
                    command += ["--hints"]
            else:
                command += ["--encoder-weights", "auto"]
        else:
            command += ["demo"]

        def collect() -> dict[str, Any]:
            for name in ("grid.png", "curves.png"):
                if (run / name).exists():
                    shutil.copy(run / name, self.out / f"training-{name}")
            result: dict[str, Any] = {}
            with open(run / "history.csv") as file:
                result["history"] = list(csv.DictReader(file))
            if (run / "metrics.json").exists():
                result["metrics"] = json.loads((run / "metrics.json").read_text())
            return result

        return Part("training", 120, [*command, "--out", run], collect)

    def notebook(self) -> Part:
        """The main one, as a user runs it but shorter."""
        done = self.out / "notebook.ipynb"
        settings = {
            "DATA": self.args.photos or "builtin",
            "SIZE": 32 if self.args.quick else 128,
            "PRETRAIN_EPOCHS": 1 if self.args.quick else 3,
            "GAN_EPOCHS": 1,
            "RUN": self.work / "notebook-run",
            "PHOTO": PROJECT / "assets" / "photos" / "mountains.jpg",
        }
        command = [sys.executable, "-m", "papermill", PROJECT / "notebooks" / "colorize.ipynb"]
        command += [done, "--kernel", "python3", "--log-output", "--no-progress-bar"]
        for name, value in settings.items():
            command += ["-p", name, value]
        needs = (
            "papermill",
            "ipykernel",
            "nbformat",
            "fastai",
        )  # its first cell installs what lacks
        return Part("notebook", 90, command, lambda: {"cells": cells_run(done)}, needs)


def test_results(file: Path) -> dict[str, Any]:
    """What pytest wrote: how many tests passed, and why others did not."""
    result: dict[str, Any] = {"passed": 0, "failed": {}, "skipped": {}}
    for case in ElementTree.parse(file).iter("testcase"):
        bad = next((x for kind in ("failure", "error") if (x := case.find(kind)) is not None), None)
        skipped = case.find("skipped")
        if bad is not None:
            text = f"{bad.get('message', '')}\n{bad.text or ''}"
            result["failed"][case.get("name")] = text[-2000:]
        elif skipped is not None:
            result["skipped"][case.get("name")] = skipped.get("message", "")
        else:
            result["passed"] += 1
    return result


def cells_run(file: Path) -> int:
    """Code cells of a notebook that papermill has run."""
    cells = json.loads(file.read_text())["cells"]
    return sum(bool(cell.get("execution_count")) for cell in cells)


def run_part(part: Part, seconds: float, log: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part; gives what became of it."""
    missing = [name for name in part.needs if find_spec(name) is None]
    if missing:
        return {"status": "left out", "error": f"not installed: {', '.join(missing)}"}
    if seconds < ENOUGH:
        return {"status": "left out", "error": "no time left"}
    started = time.monotonic()
    with open(log, "wb") as file:
        process = subprocess.Popen(
            [str(word) for word in part.command],
            cwd=log.parent,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # it is ended with all that it has started
        )
        try:
            status = "done" if process.wait(seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            status = "out of time"
            os.killpg(process.pid, signal.SIGINT)  # pytest then writes what it has
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    result: dict[str, Any] = {"status": status, "seconds": round(time.monotonic() - started, 1)}
    if status != "done":
        result["error"] = log.read_text(errors="replace")[-3000:]
    try:
        result |= part.collect()
    except Exception as error:  # it got no further than that
        result["nothing_kept"] = f"{type(error).__name__}: {error}"
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="as small as it can be: a rehearsal")
    parser.add_argument("--photos", type=Path, help="a folder to train on; else the built-in ones")
    parser.add_argument("--start", type=Path, help="weights that the training starts from")
    parser.add_argument("--budget", type=float, default=520, help="seconds of a GPU for all")
    parser.add_argument("--only", nargs="+", metavar="PART", help="no other parts than these")
    parser.add_argument("--commit", help="what is measured, where there is no git")
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or "runs/gpu"))
    parser.add_argument("--work", type=Path, default=Path("runs/gpu-work"), help="what is not kept")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error(
            "there is no GPU; --device cpu --quick (make gpu DEVICE=cpu QUICK=1) rehearses"
        )
    if args.start and not args.photos:
        parser.error("--start says what a training on --photos begins with; give these too")
    for name in ("out", "work", "photos", "start"):
        if path := getattr(args, name):
            setattr(args, name, path.resolve())
    # In a shell's background it is ignored, and so it would be in what is started there.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    shutil.rmtree(args.work, ignore_errors=True)
    for folder in (args.out, args.work):
        folder.mkdir(parents=True, exist_ok=True)
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "DEVICE": args.device,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "XDG_CACHE_HOME": str(args.work / "cache"),
    }
    if args.device == "cpu":
        environment |= {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    plan = Plan(args)
    about = {"machine": describe(), "commit": args.commit or commit(), "device": args.device}
    print(f"{about['machine']}; commit {about['commit']}", flush=True)
    results: dict[str, Any] = {}
    patience = PATIENCE[args.device]
    end = time.monotonic() + patience * args.budget
    for part in plan.parts():
        if args.only and part.name not in args.only:
            continue
        left = min(patience * part.seconds, end - time.monotonic())
        result = run_part(part, left, args.work / f"{part.name}.txt", environment)
        results[part.name] = result
        write_json(args.out / "gpu.json", {**about, "rows": plan.rows, "parts": results})
        failed = f", {len(result['failed'])} tests failed" if result.get("failed") else ""
        print(f"{part.name:<20}{result.get('seconds', 0):>7} s  {result['status']}{failed}")
        if error := result.get("error"):
            print("    " + "\n    ".join(error.strip().splitlines()[-8:]), flush=True)
    for row in plan.rows:
        ratio = f"{row['ratio']:>8.2f}x" if row["ratio"] else " " * 9
        print(f"{row['name']:<40}{row['ours']:>12.4g}{ratio}  {row['unit']}")
    return int(any(result["status"] in ("failed", "out of time") for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
