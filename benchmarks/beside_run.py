"""The reference recipe on the photos of a run, stage by stage for as long as that run took.

The run may be in progress: the reference then trains beside it and ends with it, so that whatever
else the machine does hits both. Give both the same number of threads (OMP_NUM_THREADS).

    python benchmarks/beside_run.py RUN --val OTHER_PHOTOS
"""

from __future__ import annotations

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from equal_time import COLUMNS, Rival

from colorize.dataset import PhotoSet, load_photo_set, load_photos, spread, to_network
from colorize.evaluate import measure
from colorize.photos.sources import source_paths
from colorize.pretrained import load_generator
from colorize.run import load_config
from colorize.system.files import write_json
from colorize.system.machine import commit, describe
from colorize.viz import compare, save

WEIGHTS = {"pretrain": "pretrained", "gan": "generator"}  # of a stage, in the run's folder
SLICE = 30.0  # seconds between two looks at the run
SHOWN = 24  # photos on a page


def spent(run: Path, stage: str, epochs: int) -> tuple[float, bool]:
    """Seconds that a stage of the run has taken so far, and whether it has ended."""
    file = run / "history.csv"
    rows = list(csv.DictReader(file.open())) if file.exists() else []
    seconds = [float(row["seconds"]) for row in rows if row["stage"] == stage]
    return sum(seconds), len(seconds) == epochs


def train(rival: Rival, run: Path, stage: str, epochs: int) -> dict[str, Any]:
    """As long as the run's stage, and while it goes on."""
    before, cpu, photos = rival.seconds, time.process_time(), rival.photos
    while True:
        goal, ended = spent(run, stage, epochs)
        left = goal - (rival.seconds - before)
        if ended and left <= 0:
            break
        rival.train(stage, seconds=min(SLICE, left) if ended else SLICE)
    return {
        "seconds": round(rival.seconds - before),
        "cpu_seconds": round(time.process_time() - cpu),
        "run_seconds": round(goal),
        "photos": rival.photos - photos,
    }


def page(networks: dict[str, Any], photos: PhotoSet, file: Path) -> None:
    """The same photos, coloured by each."""
    L, ab = to_network(photos.__getitems__(spread(len(photos), SHOWN)))
    with torch.no_grad():
        versions = {name: predict(L).float() for name, predict in networks.items()}
    save(compare(L, {**versions, "truth": ab}, per_row=2), file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder, of a run on the CPU")
    parser.add_argument("--val", required=True, help="photos to measure on")
    parser.add_argument("--out", type=Path, default=Path("runs/beside_run"))
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)  # fastai's
    config = load_config(args.run)
    # Now: hours later the checkout may be at another commit.
    about = {"size": config.data.size, "machine": describe(), "commit": commit()}
    names = load_photos(config.data, config.train.seed).train.names
    paths = source_paths(config.data.source)
    held_out, _ = load_photo_set(args.val, config.data.size)
    torch.manual_seed(config.train.seed)
    rival = Rival([paths[n] for n in names], config.data.size, config.train.batch_size, workers=0)
    rows: list[dict[str, Any]] = []
    args.out.mkdir(parents=True, exist_ok=True)
    for stage, epochs in (
        ("pretrain", config.train.pretrain_epochs),
        ("gan", config.train.gan_epochs),
    ):
        time_spent = train(rival, args.run, stage, epochs)
        torch.save(rival.recipe.generator.state_dict(), args.out / f"reference-{stage}.pt")
        while not (args.run / WEIGHTS[stage] / "model.safetensors").exists():
            time.sleep(1)  # the run writes them after its last epoch
        networks = {
            "ours": load_generator(args.run / WEIGHTS[stage]),
            "reference": rival.recipe.predict,
        }
        for recipe, predict in networks.items():
            measures = measure(predict, held_out, full=True)
            row = {"recipe": recipe, "stage": stage, **(time_spent if recipe != "ours" else {})}
            rows.append(row | {name: measures[name] for name in COLUMNS})
            print(rows[-1], flush=True)
        page(networks, held_out, args.out / f"page-{stage}.png")
        write_json(args.out / "beside_run.json", {**about, "rows": rows})


if __name__ == "__main__":
    main()
