"""What docs/faults.md promises, with real full and read-only disks where such can be mounted."""

import re
import shutil
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from commands import Command
from conftest import write_photos
from PIL import Image

from colorize.config import DataConfig
from colorize.dataset import load_photos
from colorize.photos.cache import decode_once
from colorize.photos.read import open_rgb
from colorize.pretrained import load_generator, save_weights
from colorize.system.files import HOST
from colorize.training.checkpoint import checkpoint_path, load_checkpoint

TABLE = Path(__file__).parents[1] / "docs" / "faults.md"
OPTIONS = "--size 32 --batch-size 4 --encoder-weights none --precision fp32 --gan-epochs 0"


def succeeds(command):
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def last_line(command):
    assert command.wait() == 1, command.said
    assert "Traceback" not in command.said
    return command.said.splitlines()[-1]


@pytest.fixture
def mount(tmp_path):
    """Make a small disk, as a function of its folder and its size in KB."""
    mounted = []

    def make(folder, kilobytes):
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if not shutil.which("mount") or not succeeds(command):
            pytest.skip("disks cannot be mounted here")
        mounted.append(folder)
        return folder

    yield make
    for folder in reversed(mounted):
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def train(folder, out, *more):
    write_photos(folder / "photos", 10)
    words = ["train", "--data", folder / "photos", "--out", out, *OPTIONS.split(), *more]
    return Command(folder / "said.txt", *words, "--cache", folder / "cache")


def assert_usable(run):
    assert load_checkpoint(checkpoint_path(run))["epoch"] > 0
    load_generator(run / "generator")
    assert not list(run.rglob(".unfinished-*"))


def fill(disk):
    """Use up what is left of a disk."""
    with suppress(OSError), open(disk / "filler", "wb") as file:
        while True:
            file.write(bytes(1 << 16))
            file.flush()


@pytest.mark.slow
def test_a_disk_that_fills_up_costs_no_checkpoint(tmp_path, mount):
    disk = mount(tmp_path / "disk", 2_000_000)
    command = train(tmp_path, disk / "run", "--pretrain-epochs", 500)
    command.wait_until((disk / "run" / "samples" / "pretrain-001.png").exists)
    fill(disk)
    line = last_line(command)
    assert "no space left on the disk; nothing that was finished before is lost" in line
    assert_usable(disk / "run")
    (disk / "filler").unlink()
    kept = load_checkpoint(checkpoint_path(disk / "run"))["epoch"]
    command = Command(tmp_path / "said.txt", "train", "--out", disk / "run", "--resume")
    command.wait_until((disk / "run" / "samples" / f"pretrain-{kept + 2:03}.png").exists)
    command.kill()
    assert f"going on after pretrain epoch {kept}" in command.said


@pytest.mark.slow
def test_a_picture_that_finds_no_room_costs_no_checkpoint(tmp_path, mount):
    mount(tmp_path / "run" / "samples", 8)
    (tmp_path / "run" / "left_out.json").touch()  # as after a stop before the first checkpoint
    command = train(tmp_path, tmp_path / "run", "--pretrain-epochs", 2)
    assert "no space left on the disk" in last_line(command)
    assert_usable(tmp_path / "run")


@pytest.mark.slow
def test_a_cache_without_room_is_one_line(tmp_path, mount):
    mount(tmp_path / "cache", 8)
    command = train(tmp_path, tmp_path / "run", "--pretrain-epochs", 1)
    assert "no space left on the disk" in last_line(command)
    assert not list((tmp_path / "cache").iterdir())
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
def test_a_result_without_room_leaves_no_half_of_it(tmp_path, mount, small_generator, suffix):
    disk = mount(tmp_path / "out", 4)
    save_weights(small_generator, tmp_path / "weights")
    noise = np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"photo{suffix}")
    words = ["predict", tmp_path / f"photo{suffix}", "--weights", tmp_path / "weights"]
    command = Command(tmp_path / "said.txt", *words, "--out", disk)
    assert "no space left on the disk" in last_line(command)
    assert list(disk.iterdir()) == []


@pytest.mark.slow
def test_a_disk_that_becomes_read_only_is_one_line(tmp_path, mount):
    disk = mount(tmp_path / "disk", 2_000_000)
    command = train(tmp_path, disk / "run", "--pretrain-epochs", 500)
    command.wait_until((disk / "run" / "samples" / "pretrain-001.png").exists)
    remount = ["mount", "-o", "remount,ro", str(disk)]
    while not succeeds(remount):  # a file is being written
        time.sleep(0.02)
    assert "Read-only file system" in last_line(command)
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert load_checkpoint(checkpoint_path(disk / "run"))["epoch"] > 0
    load_generator(disk / "run" / "generator")


@pytest.mark.slow
def test_a_read_only_folder_is_one_line_at_once(tmp_path, mount):
    disk = mount(tmp_path / "disk", 100)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    command = train(tmp_path, disk / "run")
    line = last_line(command)
    assert "Read-only file system" in line
    assert str(disk / "run") in line
    assert not (tmp_path / "cache").exists()  # before any work


@pytest.mark.slow
def test_photos_that_vanish_while_training_do_not_matter(tmp_path):
    """And what is put in their place is not looked at: an epoch is read from the cache."""
    command = train(tmp_path, tmp_path / "run", "--pretrain-epochs", 6)
    command.wait_until(checkpoint_path(tmp_path / "run").exists)
    for number, photo in enumerate(sorted((tmp_path / "photos").iterdir())):
        photo.unlink()
        if number % 2:
            photo.write_bytes(b"something else")
    assert command.wait() == 0, command.said
    assert (tmp_path / "run" / "grid.png").exists()


def test_a_photo_that_vanishes_while_it_is_decoded_is_left_out(tmp_path, monkeypatch):
    """Some go when the first is opened, after all were found."""
    paths = write_photos(tmp_path / "photos", 60)

    def open_and_delete(path, **options):
        paths[50].unlink(missing_ok=True)
        return open_rgb(path, **options)

    monkeypatch.setattr("colorize.photos.cache.open_rgb", open_and_delete)
    decoded = decode_once(paths, 32, str(tmp_path / "cache"), progress=False)
    assert set(decoded.unreadable) == {50}
    assert all(decoded.array[row].any() for row in range(60) if row != 50)


@pytest.mark.slow
def test_a_cache_removed_while_training_does_not_matter(tmp_path):
    command = train(tmp_path, tmp_path / "run", "--pretrain-epochs", 6)
    command.wait_until(checkpoint_path(tmp_path / "run").exists)
    shutil.rmtree(tmp_path / "cache")
    assert command.wait() == 0, command.said


def test_a_killed_decoder_leaves_nothing_that_is_used(tmp_path):
    """What it had decoded so far is swept by the next, which decodes all."""
    paths = write_photos(tmp_path / "photos", 5)
    litter = tmp_path / "cache" / f".building-{HOST}abc"
    litter.mkdir(parents=True)
    (litter / "photos.npy").write_bytes(b"half")
    config = DataConfig(str(tmp_path / "photos"), 32, cache=str(tmp_path / "cache"))
    photos = load_photos(config, progress=False)
    assert len(photos.train) + len(photos.val) == len(paths)
    assert not litter.exists()


@pytest.mark.slow
def test_two_runs_share_a_cache(tmp_path, monkeypatch):
    """One decodes; the other comes while it is at it, waits, and takes what there is then."""
    write_photos(tmp_path / "photos", 10)
    cache = tmp_path / "cache"
    words = ["train", "--data", tmp_path / "photos", "--out", tmp_path / "run", *OPTIONS.split()]
    words += ["--cache", cache]
    others = []

    def open_slowly(path, **options):
        with first:
            if not others:
                others.append(Command(tmp_path / "said.txt", *words, "--pretrain-epochs", 1))
                others[0].wait_until(lambda: "waiting for it" in others[0].said)
        return open_rgb(path, **options)

    first = threading.Lock()
    monkeypatch.setattr("colorize.photos.cache.open_rgb", open_slowly)
    load_photos(DataConfig(str(tmp_path / "photos"), 32, cache=str(cache)))
    decoded = {path: path.stat().st_mtime_ns for path in cache.glob("*/*")}
    (other,) = others
    assert other.wait() == 0, other.said
    assert {path: path.stat().st_mtime_ns for path in cache.glob("*/*")} == decoded


def test_every_row_of_the_table_has_its_test():
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("|")]
    rows = [line for line in lines if not line.startswith(("| fault |", "|---"))]
    assert len(rows) > 30
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("test_*.py"))
    for row in rows:
        names = re.findall(r"`(test_\w+)`", row)
        assert names, row
        assert all(f"def {name}(" in tests for name in names), row
