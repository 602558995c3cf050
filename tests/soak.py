"""Kill a training run at random moments until it is done; it must end as an unbroken one does.

python tests/soak.py --kills 50 --precision bf16
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from conftest import write_photos

from colorize.pretrained import load_generator
from colorize.training.checkpoint import checkpoint_path, has_checkpoint, load_checkpoint

_BAR = re.compile(r"(pretrain|gan) (\d+)/\d+:[^\r\n]*? (\d+)/(\d+) \[")
_PHOTOS, _BATCH = 14, 4  # 13 to train on: three steps an epoch
_STEPS = 3
_EARLY = 0.2  # share of kills while a process still starts, decodes or loads


@dataclass
class Soak:
    """What happened to a run that was killed."""

    kills: int = 0
    starts: int = 0  # of processes that had nothing to go on from
    resumes: int = 0
    steps_lost: list[int] = field(default_factory=list)  # at each kill

    def __str__(self) -> str:
        epochs = sum(self.steps_lost) / _STEPS
        worst = max(self.steps_lost, default=0) / _STEPS
        return (
            f"{self.kills} kills, {self.starts} starts, {self.resumes} resumes; repeated work: "
            f"{epochs:.1f} epochs in all, {worst:.1f} after the worst kill"
        )


def command(
    folder: Path, out: Path, epochs: int, minutes: float, precision: str = "fp32"
) -> list[str]:
    """A run, or the rest of one; `minutes` between checkpoints beside those of each epoch."""
    words = [sys.executable, "-m", "colorize", "train", "--out", str(out)]
    words += ["--checkpoint-minutes", str(minutes), "--cache", str(folder / "cache")]
    if has_checkpoint(out):
        return [*words, "--resume"]
    words += ["--data", str(folder / "photos"), "--batch-size", str(_BATCH)]
    words += ["--size", "32", "--encoder-weights", "none", "--precision", precision]
    words += ["--val-fraction", "0.05"]
    return [*words, "--pretrain-epochs", str(epochs), "--gan-epochs", str(epochs)]


def start(words: list[str], log: Path) -> subprocess.Popen:
    # Each step is in the log, so that it tells how far the process was.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_MININTERVAL": "0"}
    with open(log, "w") as said:
        return subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT, env=environment)


def shot(
    process: subprocess.Popen, log: Path, chance: random.Random, begun: int, epochs: int
) -> bool:
    """Kill a process at a random moment; False if it ended before.

    Moments of training are told by steps, as many on any machine; `begun` were done before.
    """
    if chance.random() < _EARLY:
        wait = chance.uniform(0, 5)
    else:
        goal = begun + chance.randint(0, _STEPS + 1)
        while process.poll() is None and (
            "training on" not in (said := log.read_text()) or reached(said, epochs) < goal
        ):
            time.sleep(0.02)
        wait = chance.uniform(0, 0.5)
    with suppress(subprocess.TimeoutExpired):
        if process.wait(wait) != 0:
            raise AssertionError(log.read_text())
        return False
    process.kill()
    process.wait()
    return True


def place(stage: str, epoch: int, step: int, epochs: int) -> int:
    """Steps since the run began; `epoch` counts those that are done."""
    return (epoch + (epochs if stage == "gan" else 0)) * _STEPS + step


def reached(said: str, epochs: int) -> int:
    """How far a process was when it was killed, by its progress bar."""
    bars = _BAR.findall(said)
    return place(bars[-1][0], int(bars[-1][1]) - 1, int(bars[-1][2]), epochs) if bars else 0


def soak(
    folder: Path, kills: int, epochs: int, seed: int = 0, precision: str = "fp32"
) -> Iterator[Soak]:
    """Break a run so often, then let it end. Gives what happened so far, after each process."""
    chance, result, out, log = random.Random(seed), Soak(), folder / "broken", folder / "log"
    done = False
    while not done:
        resumed = has_checkpoint(out)
        result.resumes, result.starts = result.resumes + resumed, result.starts + (not resumed)
        begun = kept_steps(out, epochs)
        minutes = chance.choice((0, 10))  # after every step, or after each epoch only
        process = start(command(folder, out, epochs, minutes, precision), log)
        if result.kills < kills:
            done = not shot(process, log, chance, begun, epochs)
        else:
            done = True
            assert process.wait() == 0, log.read_text()
        if not done:
            result.kills += 1
            result.steps_lost.append(lost(out, reached(log.read_text(), epochs), epochs))
        yield result


def kept_steps(out: Path, epochs: int) -> int:
    """Steps that the last checkpoint holds."""
    if not has_checkpoint(out):
        return 0
    kept = load_checkpoint(checkpoint_path(out))
    return place(kept["stage"], kept["epoch"], kept["done"]["steps"], epochs)


def lost(out: Path, steps: int, epochs: int) -> int:
    """Steps that a kill undid; what is left must be whole."""
    if has_checkpoint(out):
        load_generator(out / "generator")
    return max(0, steps - kept_steps(out, epochs))


def differences(out: Path, unbroken: Path) -> list[str]:
    """Names of all that a broken run keeps and that is not as in an unbroken one."""
    wrong = differing(*(load_checkpoint(checkpoint_path(run)) for run in (out, unbroken)))
    for weights in ("pretrained", "generator"):
        ours, theirs = (load_generator(run / weights).state_dict() for run in (out, unbroken))
        wrong += [f"{weights}.{key}" for key in ours if not torch.equal(ours[key], theirs[key])]
    wrong += [str(path) for path in out.parent.rglob(".*")]  # left unfinished
    return wrong


def differing(ours: dict, theirs: dict) -> list[str]:
    """Names of what is not the same, bit for bit, in two checkpoints; how long it took aside."""
    ours, theirs = _flat(ours), _flat(theirs)
    return [key for key in ours.keys() | theirs.keys() if not _same(ours.get(key), theirs.get(key))]


def _flat(value: object, name: str = "") -> dict[str, object]:
    if not isinstance(value, dict | list | tuple):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = {}
    for key, part in items:
        if key not in ("seconds", "photos_per_second"):
            found |= _flat(part, f"{name}.{key}")
    return found


def _same(ours: object, theirs: object) -> bool:
    if isinstance(ours, torch.Tensor) and isinstance(theirs, torch.Tensor):
        return torch.equal(ours, theirs)
    return ours == theirs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=30, help="of each stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "photos", _PHOTOS)
        for result in soak(folder, args.kills, args.epochs, args.seed, args.precision):
            print(result, flush=True)
        words = command(folder, folder / "unbroken", args.epochs, 10, args.precision)
        unbroken = start(words, folder / "log")
        assert unbroken.wait() == 0, (folder / "log").read_text()
        wrong = differences(folder / "broken", folder / "unbroken")
        print(f"differences from the unbroken run: {', '.join(wrong) or 'none'}")
        sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
