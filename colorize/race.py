"""A race: variants of a run's settings, from the same start, for the same time or photos.

Each variant is a run of one stage, repeated with several seeds, on the same photos; all are
measured on the same held-out ones. What two seeds of a variant differ by says what counts.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from colorize.config import RunConfig
from colorize.dataset import Photos, PhotoSet, load_photo_set, load_photos, spread, to_network
from colorize.evaluate import at_working_size, means, measure, measure_each
from colorize.metrics import ColorDistribution
from colorize.predict import Colorizer
from colorize.run import changed_settings, check_apart, make_networks
from colorize.system.device import process_state
from colorize.system.errors import ColorizeError, printable
from colorize.system.files import write_json, write_whole
from colorize.system.lock import only_run
from colorize.system.machine import commit, describe
from colorize.system.progress import say
from colorize.trainer import EpochReport, Trainer, photos_per_second
from colorize.training.checkpoint import has_checkpoint
from colorize.training.precision import pick_precision
from colorize.viz import Figure, compare, frontier, race_curves, save
from colorize.weights.card import CARD_NAME, run_card

LAPS = 5  # epochs of a race; each is measured
MOST = 500  # held-out photos to measure on
SHOWN = 8  # in the grid
MEASURES = {  # in the table, with the decimals that matter
    "l1": ("L1 of ab", 4),
    "ciede2000": ("CIEDE2000", 2),
    "psnr": ("PSNR, dB", 2),
    "colorfulness": ("colourfulness", 1),
    "ab_distance_scaled": ("distance of the colours, scaled", 4),
}
_KNOB = (0.75, 1.0, 1.25, 1.5)  # strengths of the start's colours
_CONFIDENCE = 0.95
_ROUNDING = 1e-9  # of sums that are the same
_FILE, _RESULT, _POINTS = "race.json", "result.json", "laps.json"
_SHARED_START = "start"  # the run folder of pretraining that all variants go on from


@dataclass(frozen=True)
class Race:
    """What is asked.

    Args:
        base: settings of everything that is not varied. With `train.start_weights` all variants
            start from these; else from `train.pretrain_epochs` of L1 that they share.
        variants: see `options.variants`; the first is what the others are compared with.
        out: folder for everything. A race that was stopped goes on, and one that is done may get
            more variants and seeds: what is finished is not run again.
        minutes: of training for each variant and seed, without measuring and drawing.
        photos: instead of minutes, as many for each.
        seeds: how many, from `base.train.seed` on. They decide the order of the photos, the crops
            and D's first weights (and G's where nothing is loaded), not which are held out.
        stage: "gan" or "pretrain": which of the two is raced.
        val: a folder to measure on instead of the held-out share.
    """

    base: RunConfig
    variants: dict[str, RunConfig]
    out: Path
    minutes: float | None = 10.0
    photos: int | None = None
    seeds: int = 2
    stage: str = "gan"
    val: str | None = None

    def folder(self, name: str, seed: int) -> Path:
        """The run folder of a variant and seed."""
        safe = "".join(c if c.isalnum() or c in "=.-" else "_" for c in name)
        if safe != name.replace(" ", "_") or len(safe) > 100:
            safe = f"{safe[:100]}-{sha256(name.encode()).hexdigest()[:8]}"
        return self.out / safe / f"seed-{seed}"


def run_race(race: Race) -> dict[str, Any]:
    """Run what is not finished yet, and write what came out.

    Writes table.md and race.json into `race.out`, anew after each run, and grid.jpg, curves.png and
    frontier.png, anew after each seed; and a folder a variant and seed with its weights, history
    and settings.

    Returns:
        What race.json holds. A variant that could not be trained is in `failed`, with the reason.

    Raises:
        ColorizeError: the folder holds something else, or the photos or the start cannot be had.
    """
    process = process_state()
    if process.num_processes > 1:
        raise ColorizeError("a race runs in one process; start it without accelerate launch")
    _check_out(race)
    with only_run(race.out):
        photos = _Sets(race)
        say(printable(photos.of(race.base).summary()))
        record = _open(race, photos)
        race = _with_start(race, photos)
        write_json(race.out / _FILE, record)
        _plan(race, photos, record)
        write_json(race.out / _FILE, record)
        if race.base.train.start_weights and "start" not in record:
            record["start"] = _measure_start(race, photos.held_out)
        record["failed"] = {}
        for seed in _seeds(race):
            for name in race.variants:
                if not (race.folder(name, seed) / _RESULT).is_file():
                    try:
                        _run(race, name, seed, photos, record)
                    except ColorizeError as error:
                        record["failed"][f"{name}, seed {seed}"] = str(error)
                        say(f"{name}, seed {seed}: {error}")
                _tell(race, record, photos.held_out)
            _draw(race, record, photos.held_out)
    return record


class _Sets:
    """The photos of each size that occurs, and those to measure on."""

    def __init__(self, race: Race) -> None:
        self.race = race
        self.sizes: dict[int, Photos] = {}
        held_out = self.of(race.base).val
        if not len(held_out):
            raise ColorizeError("no photos to measure on; give --val FOLDER or a --val-fraction")
        self.held_out = held_out

    def of(self, config: RunConfig) -> Photos:
        """What a variant learns from, and is measured on at its own size while it does.

        The split depends on the base's seed alone.
        """
        size = config.data.size
        if size not in self.sizes:
            val = self.race.val
            data = replace(config.data, val_fraction=0.0) if val else config.data
            photos = load_photos(data, self.race.base.train.seed)
            held_out = load_photo_set(val, size, data.cache)[0] if val else photos.val
            self.sizes[size] = replace(photos, val=_some(held_out))
        return self.sizes[size]


def _some(photos: PhotoSet) -> PhotoSet:
    """At most MOST of them."""
    chosen = spread(len(photos), MOST)
    names, colors = ([x[i] for i in chosen] for x in (photos.names, photos.colorfulness))
    return PhotoSet(photos.array, photos.rows[chosen], names, colors)


def _seeds(race: Race) -> range:
    return range(race.base.train.seed, race.base.train.seed + race.seeds)


def _check_out(race: Race) -> None:
    for source in (race.base.data.source, race.val or "builtin"):
        check_apart(source, race.out)
    if race.out.exists() and not race.out.is_dir():
        raise ColorizeError(f"{race.out}: is a file; give a folder for the race")
    if not (race.out / _FILE).is_file() and any(race.out.glob("[!.]*")):
        raise ColorizeError(f"{race.out}: holds other files; give a new folder for the race")


def _open(race: Race, photos: _Sets) -> dict[str, Any]:
    """What is known of the race in this folder; a new one if there is none."""
    conditions = {name: getattr(race, name) for name in ("minutes", "photos", "stage")}
    sets = photos.of(race.base)
    about = {
        "config": race.base.to_dict(),
        **conditions,
        "val": race.val,
        "sets": sets.fingerprint(),
    }
    about |= {"commit": commit(), "machine": describe(), "versions": _versions()}
    path = race.out / _FILE
    if not path.is_file():
        return {**about, "precision": pick_precision(race.base.train.precision), "plan": {}}
    try:
        record = json.loads(path.read_text())
        changed = changed_settings(RunConfig.from_dict(record["config"]), race.base)
        changed += [name for name, value in conditions.items() if record[name] != value]
        changed += [] if sets.match(record["sets"]) else ["photos"]
    except (ValueError, TypeError, KeyError) as error:
        raise ColorizeError(f"{path}: damaged; start again in a new folder") from error
    if changed:
        raise ColorizeError(
            f"{race.out}: holds a race with another {', '.join(changed)}; give another folder, or "
            "set it back to go on with that race"
        )
    return record | about


def _versions() -> dict[str, str]:
    names = ("torch", "torchvision", "accelerate", "numpy", "scikit-image")
    return {"python": platform.python_version()} | {name: version(name) for name in names}


def _with_start(race: Race, photos: _Sets) -> Race:
    """The race with weights to start from; trains them first if they are to be shared.

    A variant that starts from others keeps those.
    """
    train = race.base.train
    if race.stage != "gan" or train.start_weights or not train.pretrain_epochs:
        return race
    out = race.out / _SHARED_START
    if not (out / "pretrained").is_dir():
        say(f"L1 that all variants go on from, epochs: {train.pretrain_epochs}")
        resume, shared = has_checkpoint(out), replace(race.base, train=replace(train, gan_epochs=0))
        networks = make_networks(shared, resume)
        write_json(out / "config.json", shared.to_dict())
        Trainer(shared.train, photos.of(shared), *networks, out, resume).pretrain()
    start = str((out / "pretrained").absolute())

    def started(config: RunConfig) -> RunConfig:
        begin = config.train.start_weights or start
        return replace(config, train=replace(config.train, start_weights=begin))

    variants = {name: started(config) for name, config in race.variants.items()}
    return replace(race, base=started(race.base), variants=variants)


def _plan(race: Race, photos: _Sets, record: dict[str, Any]) -> None:
    """How many steps each variant takes: with all seeds the same.

    Time is turned into steps by the speed of each, as a schedule has to know its end. All are
    measured twice, in turns: what else the machine does then hits them alike.
    """
    plan = record["plan"]
    new = [name for name in race.variants if name not in plan]
    speeds: dict[str, list[float]] = {name: [] for name in new}
    for _ in range(1 if race.photos else 2):
        for name in new:
            config = _settings(race, name, race.base.train.seed, record)
            networks = make_networks(config)  # what does not fit fails here, not after hours
            if not race.photos:
                job = (config.train, photos.of(config), *networks, race.stage)
                speeds[name].append(photos_per_second(*job))
    for name in new:
        batch = race.variants[name].train.batch_size
        shown = race.photos or 60 * (race.minutes or 0) * fmean(speeds[name])
        plan[name] = max(1, int(shown / batch))
        if speeds[name]:
            speed = f"{fmean(speeds[name]):.1f} photos a second"
            say(f"{name}: {speed}, {plan[name] * batch:,} photos in {race.minutes:g} minutes")


def _settings(race: Race, name: str, seed: int, record: dict[str, Any]) -> RunConfig:
    """Those of one run: LAPS epochs, or fewer, that together show what is planned."""
    config = race.variants[name]
    train = config.train
    steps = record["plan"].get(name, LAPS)
    laps = min(LAPS, steps)
    epochs = {"pretrain_epochs": 0, "gan_epochs": 0, f"{race.stage}_epochs": laps}
    precision = record["precision"] if train.precision == "auto" else train.precision
    lap = {"epoch_photos": steps // laps * train.batch_size, "repeats": 1}
    train = replace(train, seed=seed, precision=precision, **epochs, **lap)
    return replace(config, train=train)


def _run(race: Race, name: str, seed: int, photos: _Sets, record: dict[str, Any]) -> None:
    """Train one variant with one seed, or what is left of it, and measure."""
    out, config = race.folder(name, seed), _settings(race, name, seed, record)
    resume = has_checkpoint(out)
    laps = json.loads((out / _POINTS).read_text()) if resume else {}
    lap = config.train.epoch_photos or 0

    def after_lap(report: EpochReport) -> None:
        generator = trainer.averaged.module.eval()
        quick = _measure_colors(generator, photos.held_out, trainer.accelerator.device)
        laps[str(report.epoch)] = {"photos": report.epoch * lap, **quick}
        write_json(out / _POINTS, laps)

    networks = make_networks(config, resume)
    write_json(out / "config.json", config.to_dict())
    trainer = Trainer(config.train, photos.of(config), *networks, out, resume, [after_lap])
    history = trainer.pretrain() if race.stage == "pretrain" else trainer.train_gan()
    measures = _measure_whole(Colorizer.from_pretrained(str(out / "generator")), photos.held_out)
    sets = photos.of(config)
    counts = (len(sets.train), len(photos.held_out), len(sets.grey))
    with write_whole(out / "generator" / CARD_NAME) as temporary:
        temporary.write_text(run_card(config, "generator", counts, measures), encoding="utf-8")
    result = {
        "variant": name,
        "seed": seed,
        "photos": lap * len(history),
        "seconds": round(sum(row["seconds"] for row in history), 1),
        **measures,
        "laps": list(laps.values()),
        "commit": record["commit"],
    }
    write_json(out / _RESULT, result)
    for large in ("checkpoints", "pretrained"):  # the latter is generator/ once more
        shutil.rmtree(out / large, ignore_errors=True)
    told = ", ".join(f"{MEASURES[m][0]} {measures[m]:.{MEASURES[m][1]}f}" for m in MEASURES)
    say(f"{name}, seed {seed}: {told}")


def _measure_whole(colorizer: Colorizer, photos: PhotoSet) -> dict[str, float]:
    predict = at_working_size(colorizer.generator)
    return measure(predict, photos, device=colorizer.device, full=True)


def _measure_colors(
    generator: torch.nn.Module, photos: PhotoSet, device: torch.device | str, strength: float = 1.0
) -> dict[str, float]:
    """What is quick: all but SSIM and CIEDE2000."""
    predict, colors = at_working_size(generator), ColorDistribution()
    rows = measure_each(lambda L: strength * predict(L), photos, device=device, colors=colors)
    return means(rows, colors)


def _measure_start(race: Race, photos: PhotoSet) -> dict[str, Any]:
    """What all begin with, and what stronger or weaker colours alone would make of it."""
    colorizer = _start(race)
    by_strength = partial(_measure_colors, colorizer.generator, photos, colorizer.device)
    knob = [{"strength": s, **by_strength(s)} for s in _KNOB]
    of = {"weights": race.base.train.start_weights, "photos": 0}
    return {**of, **_measure_whole(colorizer, photos), "knob": knob}


def _start(race: Race) -> Colorizer:
    """The weights that all start from, at the size at which they go on."""
    colorizer = Colorizer.from_pretrained(race.base.train.start_weights)
    colorizer.generator.working_size = race.base.data.size
    return colorizer


def _results(race: Race) -> dict[str, list[dict[str, Any]]]:
    """What is finished, by variant."""
    found = {
        name: [race.folder(name, seed) / _RESULT for seed in _seeds(race)] for name in race.variants
    }
    rows = {
        name: [json.loads(path.read_text()) for path in paths if path.is_file()]
        for name, paths in found.items()
    }
    return {name: row for name, row in rows.items() if row}


def _tell(race: Race, record: dict[str, Any], photos: PhotoSet) -> None:
    """Write the table and race.json of what is finished."""
    results = _results(race)
    record["results"] = [row for rows in results.values() for row in rows]
    record["summary"] = summary(results)
    write_json(race.out / _FILE, record)
    if results:
        text = table(record, len(photos))
        with write_whole(race.out / "table.md") as temporary:
            temporary.write_text(text, encoding="utf-8")


def _draw(race: Race, record: dict[str, Any], photos: PhotoSet) -> None:
    """Draw what is finished."""
    results, start = _results(race), record.get("start")
    if not results:
        return
    paths = {
        name: [([start] if start else []) + row["laps"] for row in rows]
        for name, rows in results.items()
    }
    titles = {name: MEASURES[name][0] for name in MEASURES if name != "ciede2000"}
    save(race_curves(paths, titles), race.out / "curves.png")
    save(frontier(paths, start["knob"] if start else []), race.out / "frontier.png")
    save(race_grid(race, photos), race.out / "grid.jpg")


def race_grid(race: Race, photos: PhotoSet) -> Figure:
    """The same held-out photos in grey, as each variant colours them (first seed), and in truth."""
    chosen = spread(len(photos), SHOWN)
    L, ab = to_network(photos.__getitems__(chosen))
    weights = {
        name: race.folder(name, race.base.train.seed) / "generator" for name in race.variants
    }
    versions: dict[str, Tensor] = {}
    if race.base.train.start_weights:
        versions["start"] = _colored(_start(race), L)
    for name, folder in weights.items():
        if (folder.parent / _RESULT).is_file():
            versions[name] = _colored(Colorizer.from_pretrained(str(folder)), L)
    captions = [Path(photos.names[row]).name for row in chosen]
    return compare(L, versions | {"truth": ab}, captions)


@torch.inference_mode()
def _colored(colorizer: Colorizer, L: Tensor) -> Tensor:
    return at_working_size(colorizer.generator)(L.to(colorizer.device)).cpu()


def summary(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean and spread over the seeds, and how each variant differs from the first.

    The spread is the standard deviation between seeds. A seed brings all variants the same order
    and crops, so most of that is common to them; a difference from the first is judged by what is
    left, see `from_first`. One in twenty that counts is still chance.

    Args:
        results: variant to the measures of each seed.

    Returns:
        For each variant and measure `mean`, `spread` (None of a single seed), `difference` from the
        first variant, and whether it is `larger` than the seeds' (None if that cannot be told).
    """
    told: dict[str, Any] = {name: {} for name in results}
    for measure_name in (*MEASURES, "photos", "seconds"):
        values = {
            name: {row["seed"]: row[measure_name] for row in rows} for name, rows in results.items()
        }
        for name, (difference, least) in from_first(values).items():
            column = list(values[name].values())
            told[name][measure_name] = {
                "mean": fmean(column),
                "spread": stdev(column) if len(column) > 1 else None,
                "difference": difference,
                "larger": None if least is None else abs(difference) > least,
            }
    return told


def from_first(values: dict[str, dict[int, float]]) -> dict[str, tuple[float, float | None]]:
    """How far each variant is from the first, and how far it would have to be, to count.

    A value is taken for the sum of what its variant and its seed bring, fitted by least squares: a
    randomised block design. A difference counts if a t-test at 95 % says so, with the variance of
    what the sums leave, pooled over all variants: two seeds a variant tell little, those of all
    together more.

    Args:
        values: of each variant, by seed; some may be missing.

    Returns:
        The difference, and the least that counts: None if there is nothing to judge it by.
    """
    from scipy.stats import t  # half a second

    names, seeds = list(values), sorted({seed for column in values.values() for seed in column})
    cells = [(name, seed) for name in names for seed in values[name]]
    rows = [[*(n == x for x in names), *(s == x for x in seeds)] for n, s in cells]
    design = np.array(rows, float).reshape(len(cells), len(names) + len(seeds))
    y = np.array([values[name][seed] for name, seed in cells])
    inverse = np.linalg.pinv(design.T @ design)
    fit = inverse @ design.T @ y
    freedom = len(cells) - int(np.linalg.matrix_rank(design))
    variance = float(np.square(y - design @ fit).sum()) / freedom if freedom else 0.0
    first, told = fmean(values[names[0]].values()) if names else 0.0, {}
    for i, name in enumerate(names):
        contrast = np.eye(design.shape[1])[i] - np.eye(design.shape[1])[0]
        difference, least = fmean(values[name].values()) - first, None
        # Without seeds in common, even by way of others, seeds and variants cannot be told apart.
        if np.allclose(contrast @ inverse @ design.T @ design, contrast):
            difference = round(float(contrast @ fit), 9)
            if freedom:
                error = math.sqrt(variance * max(0.0, contrast @ inverse @ contrast))
                least = float(t.ppf((1 + _CONFIDENCE) / 2, freedom)) * error + _ROUNDING
        told[name] = (difference, least)
    return told


def table(record: dict[str, Any], held_out: int) -> str:
    """The result as Markdown, aligned to be read in a terminal too."""
    told, results = record["summary"], record["results"]
    truth = results[0]["true_colorfulness"]
    titles = {name: title for name, (title, _) in MEASURES.items()}
    titles["colorfulness"] += f" (truth: {truth:.1f})"
    rows = [["variant", *titles.values(), "photos", "s"]]
    if start := record.get("start"):
        measured = [f"{start[name]:.{digits}f}" for name, (_, digits) in MEASURES.items()]
        rows.append(["start", *measured, "", ""])
    for name, measures in told.items():
        cells = [_cell(measures[m], digits) for m, (_, digits) in MEASURES.items()]
        times = [f"{measures['photos']['mean']:,.0f}", f"{measures['seconds']['mean']:,.0f}"]
        rows.append([printable(name).replace("|", "\\|"), *cells, *times])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join([*lines, "", *differences(told), "", _conditions(record, held_out)]) + "\n"


def _cell(value: dict[str, Any], digits: int) -> str:
    """The mean, its spread, and a star where the difference counts."""
    text = f"{value['mean']:.{digits}f}"
    text += "" if value["spread"] is None else f" ± {value['spread']:.{digits}f}"
    return text + (" *" if value["larger"] else "")


def differences(told: dict[str, Any]) -> list[str]:
    """A line for each variant but the first: what differs from it by more than seeds do."""
    first, *others = told
    lines = []
    for name in others:
        seeds = f"- {name} against {first}: "
        values = {title: (told[name][m], digits) for m, (title, digits) in MEASURES.items()}
        counting = [
            f"{title} {abs(v['difference']):.{digits}f} "
            + ("lower" if v["difference"] < 0 else "higher")
            for title, (v, digits) in values.items()
            if v["larger"]
        ]
        if all(told[name][m]["mean"] == told[first][m]["mean"] for m in MEASURES):
            lines.append(seeds + "no difference at all; what is varied plays no part here.")
        elif told[name]["l1"]["larger"] is None:
            lines.append(seeds + "one seed each, which tells no difference from chance.")
        else:
            lines.append(
                seeds + (", ".join(counting) or "nothing larger than seeds differ by") + "."
            )
    return lines


def _conditions(record: dict[str, Any], held_out: int) -> str:
    """What the figures are of, in a few lines."""
    count = max(Counter(row["variant"] for row in record["results"]).values())
    spent = f"{record['photos']:,} photos" if record["photos"] else f"{record['minutes']:g} minutes"
    size = record["config"]["data"]["size"]
    commits = list(dict.fromkeys(row["commit"] for row in record["results"]))
    text = (
        f"Means over {held_out} held-out photos at {size}x{size} and {count} seed"
        f"{'s' if count > 1 else ''}, ± the standard deviation between seeds; * differs from the "
        f"first variant by more than seeds do. {spent} of {record['stage']} training each. "
        f"Commit {commits[0]}; {record['machine']}; {record['precision']}."
    )
    if len(commits) > 1:
        text += f"\nNot of one commit, so code may differ as well: {', '.join(commits)}."
    failed = [f"Failed: {name}: {reason}" for name, reason in record["failed"].items()]
    return "\n".join([text, *map(printable, failed)])
