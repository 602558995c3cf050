"""Races: one start and the same photos for all, nothing run twice, and honest arithmetic."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import write_photos
from PIL import Image

from colorize import cli, race
from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.options import variants
from colorize.race import Race, differences, from_first, run_race, summary
from colorize.system.errors import ColorizeError

pytestmark = pytest.mark.usefixtures("thin")

TRAIN = TrainConfig(
    batch_size=2,
    pretrain_epochs=1,
    encoder_weights="none",
    precision="fp32",
    discriminator_layers=1,
)


def ask(folder, texts=("objective=bce,hinge",), **options):
    """A race on scenes at 32x32: four steps a variant."""
    if not (folder / "photos").is_dir():
        write_photos(folder / "photos", 9)
    base = RunConfig(DataConfig(str(folder / "photos"), size=32, val_fraction=0.25), TRAIN)
    base = replace(base, train=replace(TRAIN, **options.pop("train", {})))
    asked = {"minutes": None, "photos": 8} | options
    return Race(base, variants(texts, base), folder / "race", **asked)


class Watched(race.Trainer):
    """Notes what every run begins with."""

    seen: list = []  # noqa: RUF012

    def train_gan(self):
        batch = next(iter(self.batches.epoch(7)))[0]
        first = {
            "objective": self.config.objective,
            "seed": self.config.seed,
            "generator": torch.cat([p.detach().flatten() for p in self.generator.parameters()]),
            "discriminator": torch.cat(
                [p.detach().flatten() for p in self.networks["discriminator"].parameters()]
            ),
            "batch": batch,
            "names": (self.photos.train.names, self.photos.val.names),
        }
        self.seen.append(first)
        return super().train_gan()


@pytest.fixture
def watched(monkeypatch):
    monkeypatch.setattr(race, "Trainer", Watched)
    Watched.seen = []
    return Watched.seen


@pytest.fixture
def told(tmp_path, watched):
    """A finished race, and what its runs began with."""
    return run_race(ask(tmp_path)), watched, tmp_path


def test_every_variant_has_the_same_start_and_photos(told):
    record, seen, tmp_path = told
    assert [(run["seed"], run["objective"]) for run in seen] == [
        (0, "bce"),
        (0, "hinge"),
        (1, "bce"),
        (1, "hinge"),
    ]
    for run in seen:
        assert torch.equal(run["generator"], seen[0]["generator"])
        assert run["names"] == seen[0]["names"]
    for name in ("discriminator", "batch"):
        assert torch.equal(seen[0][name], seen[1][name])
        assert torch.equal(seen[2][name], seen[3][name])
    assert not torch.equal(seen[0]["discriminator"], seen[2]["discriminator"])
    assert [row["photos"] for row in record["results"]] == [8] * 4
    out = tmp_path / "race"
    assert (out / "start" / "pretrained").is_dir()
    for name in ("grid.jpg", "curves.png", "frontier.png"):
        with Image.open(out / name) as picture:
            assert min(picture.size) > 300
    assert {row["variant"] for row in record["results"]} == {"objective=bce", "objective=hinge"}
    assert (out / "table.md").read_text().count("± ") == 2 * len(race.MEASURES) + 1
    assert json.loads((out / "race.json").read_text()) == json.loads(json.dumps(record))
    weights = out / "objective=hinge" / "seed-1"
    assert {path.name for path in weights.iterdir()} == {
        "config.json",
        "history.csv",
        "generator",
        "laps.json",
        "result.json",
    }
    assert "Training had not ended" not in (weights / "generator" / "README.md").read_text()
    (knob_low, *_, knob_high) = record["start"]["knob"]
    assert knob_low["ab_distance_scaled"] == pytest.approx(knob_high["ab_distance_scaled"])
    assert knob_low["l1"] != knob_high["l1"]
    for row in record["results"]:
        assert [lap["photos"] for lap in row["laps"]] == [2, 4, 6, 8]
        assert row["laps"][-1]["l1"] == pytest.approx(row["l1"], abs=1e-4)


@pytest.mark.slow
def test_what_is_finished_is_not_run_again_and_more_can_be_asked(told):
    record, seen, tmp_path = told
    again = run_race(ask(tmp_path))
    assert len(seen) == 4
    assert again["results"] == record["results"]
    more = ask(tmp_path, ["objective=lsgan", "objective=bce,hinge"], seeds=3)
    wider = run_race(more)
    assert [(run["objective"], run["seed"]) for run in seen[4:]] == [
        ("lsgan", 0),
        ("lsgan", 1),
        ("lsgan", 2),
        ("bce", 2),
        ("hinge", 2),
    ]
    assert len(wider["results"]) == 9
    assert "Not of one commit" not in (tmp_path / "race" / "table.md").read_text()
    result = tmp_path / "race" / "objective=bce" / "seed-0" / "result.json"
    result.write_text(json.dumps(json.loads(result.read_text()) | {"commit": "1234567+"}))
    run_race(more)
    assert "Not of one commit, so code may differ as well: " in (
        (tmp_path / "race" / "table.md").read_text()
    )
    assert torch.equal(seen[4]["generator"], seen[0]["generator"])
    with pytest.raises(ColorizeError, match="another gan_lr, photos"):
        run_race(ask(tmp_path, train={"gan_lr": 1e-3}, photos=6))
    (tmp_path / "photos" / "scene-00.png").unlink()
    with pytest.raises(ColorizeError, match="another photos"):
        run_race(ask(tmp_path))


def test_a_stopped_race_goes_on(tmp_path, watched, monkeypatch):
    run = race._run

    def stop(race, name, seed, *rest):
        if name == "objective=hinge":
            raise KeyboardInterrupt
        run(race, name, seed, *rest)

    monkeypatch.setattr(race, "_run", stop)
    with pytest.raises(KeyboardInterrupt):
        run_race(ask(tmp_path, seeds=1))
    assert len(json.loads((tmp_path / "race" / "race.json").read_text())["results"]) == 1
    monkeypatch.setattr(race, "_run", run)
    record = run_race(ask(tmp_path, seeds=1))
    assert [run["objective"] for run in watched] == ["bce", "hinge"]
    assert len(record["results"]) == 2
    assert "one seed each" in (tmp_path / "race" / "table.md").read_text()


def test_a_variant_that_cannot_be_trained_does_not_end_the_race(tmp_path, monkeypatch):
    class Unlucky(race.Trainer):
        def train_gan(self):
            if self.config.objective == "bce":
                raise ColorizeError("gan 1/4, step 3: d is not a number")
            return super().train_gan()

    monkeypatch.setattr(race, "Trainer", Unlucky)
    record = run_race(ask(tmp_path, seeds=1))
    assert [row["variant"] for row in record["results"]] == ["objective=hinge"]
    assert record["failed"] == {"objective=bce, seed 0": "gan 1/4, step 3: d is not a number"}
    assert "Failed: objective=bce, seed 0" in (tmp_path / "race" / "table.md").read_text()


def test_minutes_become_photos_by_the_speed_of_each(tmp_path, monkeypatch):
    speeds = iter([1.0, 2.0, 3.0, 4.0])
    monkeypatch.setattr(race, "photos_per_second", lambda *job: next(speeds))
    record = run_race(ask(tmp_path, minutes=0.05, photos=None, seeds=1))
    # In turns: 1 and 3 photos a second, 2 and 4; 3 seconds; two a step.
    assert record["plan"] == {"objective=bce": 3, "objective=hinge": 4}
    assert [row["photos"] for row in record["results"]] == [6, 8]


def test_l1_can_be_raced_at_other_sizes_on_other_photos(tmp_path):
    write_photos(tmp_path / "others", 3)
    asked = ask(
        tmp_path,
        ["default", "size=48 pretrain-lr=1e-4"],
        stage="pretrain",
        val=str(tmp_path / "others"),
        seeds=1,
    )
    record = run_race(asked)
    assert "start" not in record
    assert not (asked.out / "start").exists()
    sizes = [
        json.loads((asked.folder(name, 0) / "config.json").read_text())["data"]["size"]
        for name in asked.variants
    ]
    assert sizes == [32, 48]
    assert [len(row["laps"]) for row in record["results"]] == [4, 4]
    assert "3 held-out photos at 32x32" in (asked.out / "table.md").read_text()


def rows(*values):
    names = (*race.MEASURES, "photos", "seconds")
    return [{"seed": seed} | dict.fromkeys(names, value) for seed, value in enumerate(values)]


def test_means_and_spreads_by_hand():
    told = summary({"a": rows(1.0, 3.0), "b": rows(7.0, 9.0), "c": rows(2.0)})
    assert told["a"]["l1"] == {
        "mean": 2.0,
        "spread": pytest.approx(2**0.5),
        "difference": 0.0,
        "larger": False,
    }
    assert told["b"]["psnr"]["difference"] == 6.0
    assert told["c"]["psnr"]["spread"] is None


def test_a_difference_counts_if_it_is_larger_than_what_seeds_leave():
    # Each seed moves all three alike, by 0, 10 and 20; what is left of a is (0, 0, 0), of b
    # (1, -1, 0), of c (-1, 1, 0): squares 4, four degrees of freedom, variance 1. Student's t of
    # 4 at 95 % is 2.776, and the error of a difference of two means of three is sqrt(2 / 3).
    values = {"a": {0: 0, 1: 10, 2: 20}, "b": {0: 4, 1: 12, 2: 23}, "c": {0: 0, 1: 12, 2: 21}}
    told = from_first(values)
    assert [difference for difference, _ in told.values()] == pytest.approx([0, 3, 1])
    assert told["b"][1] == pytest.approx(2.776 * (2 / 3) ** 0.5, rel=1e-3)
    by_name = {name: rows(*column.values()) for name, column in values.items()}
    larger = [measures["l1"]["larger"] for measures in summary(by_name).values()]
    assert larger == [False, True, False]


@pytest.mark.parametrize("shift", [1.0, 2.0, 4.0, 8.0])
def test_two_variants_are_judged_as_by_a_paired_t_test(shift):
    from scipy.stats import ttest_rel

    first, second = [0.0, 5.0, 9.0], [shift + 1, shift + 4, shift + 9.5]
    difference, least = from_first({"a": dict(enumerate(first)), "b": dict(enumerate(second))})["b"]
    assert (difference > least) == (ttest_rel(first, second).pvalue < 0.05)


def test_a_seed_that_is_missing_is_no_difference():
    # Seed 1 is 10 higher for all; b has not run with it yet.
    told = from_first({"a": {0: 1.0, 1: 11.0}, "b": {0: 2.0}, "c": {0: 3.0, 1: 13.1}})
    assert told["b"][0] == pytest.approx(1.0, abs=0.1)
    assert 0 < told["c"][1] < 5
    assert from_first({"a": {0: 1.0}, "b": {0: 2.0}})["b"] == (pytest.approx(1.0), None)
    apart = from_first({"a": {0: 1.0, 1: 2.0}, "b": {2: 5.0, 3: 6.0}})["b"]
    assert apart == (pytest.approx(4.0), None)


def test_what_is_said_of_differences():
    told = summary(
        {"a": rows(1.0, 1.2), "b": rows(1.1, 1.2), "c": rows(9.0, 9.2), "d": rows(1, 1.2)}
    )
    lines = differences(told)
    assert lines[0] == "- b against a: nothing larger than seeds differ by."
    assert lines[1].startswith("- c against a: L1 of ab 8.0000 higher, CIEDE2000 8.00 higher")
    assert lines[2] == "- d against a: no difference at all; what is varied plays no part here."
    alone = differences(summary({"a": rows(1.0), "b": rows(2.0)}))
    assert alone == ["- b against a: one seed each, which tells no difference from chance."]


def test_folders_of_variants_have_safe_names_that_differ(tmp_path):
    asked = ask(tmp_path)
    names = [
        "objective=bce",
        "gan-lr=1e-4 objective=bce",
        "start-weights=/a/b",
        "start-weights=_a_b",
    ]
    folders = [asked.folder(name, 0) for name in names]
    assert len(set(folders)) == 4
    assert all(folder.parent.parent == asked.out for folder in folders)
    assert len(asked.folder("x" * 500, 0).parent.name) < 120


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    asked = ask(tmp_path)
    asked.out.mkdir()
    (asked.out / "letter.txt").touch()
    with pytest.raises(ColorizeError, match="holds other files"):
        run_race(asked)
    inside = replace(asked, out=tmp_path / "photos" / "race")
    with pytest.raises(ColorizeError, match="lies inside"):
        run_race(inside)


def test_the_command_prints_the_table(tmp_path, capsys):
    write_photos(tmp_path / "photos", 9)
    words = (
        f"race --data {tmp_path}/photos --out {tmp_path}/race --size 32 --batch-size 2 --photos 4"
    )
    words += " --encoder-weights none --precision fp32 --discriminator-layers 1 --seeds 1"
    words += " --pretrain-epochs 1 --vary freeze-encoder=no,yes"
    assert cli.main(words.split()) == 0
    assert capsys.readouterr().out.endswith((tmp_path / "race" / "table.md").read_text())


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("--out r", "required: --vary"),
        ("--vary objective=bce,hinge", "required: --out"),
        ("--out r --vary objective=bce", "argument --vary: a race needs two variants or more"),
        ("--out r --vary objective=bce,hing", "argument --vary: objective: invalid choice: 'hing'"),
        ("--out r --vary objective=bce,hinge --minutes 0", "'0' is not a number of minutes"),
        ("--out r --vary objective=bce,hinge --minutes 1 --photos 9", "not allowed with"),
        ("--out r --vary objective=bce,hinge --seeds 0", "'0' is not a whole number above 0"),
        ("--out r --vary objective=bce,hinge --gan-epochs 3", "argument --gan-epochs: --minutes"),
    ],
)
def test_wrong_usage_is_one_line(capsys, args, says):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["race", *args.split()])
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says in lines[0]
