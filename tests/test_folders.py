"""Many photos: names, skipping, failures, formats, and what is carried over."""

import os
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scene, write_photos
from PIL import Image

from colorize import folders
from colorize.folders import colorize_files
from colorize.photos.read import open_photo
from colorize.predict import in_grey
from colorize.system.errors import ColorizeError


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_bad_file_does_not_stop_a_folder(colorizer, tmp_path):
    write_photos(tmp_path / "in" / "deep", 2, ".jpg")
    write_photos(tmp_path / "in", 2)
    (tmp_path / "in" / "bad.png").write_bytes(b"no photo")
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")
    assert names(tmp_path / "out") == [
        "deep/scene-00.jpg",
        "deep/scene-01.jpg",
        "scene-00.png",
        "scene-01.png",
    ]
    assert (outcome.colored, outcome.skipped) == (4, 0)
    (failed,) = outcome.failed
    assert failed.startswith(str(tmp_path / "in" / "bad.png"))
    with Image.open(tmp_path / "out" / "scene-00.png") as colored:
        assert colored.size == (80, 64)


def test_photos_are_never_overwritten(colorizer, tmp_path):
    (here,) = write_photos(tmp_path / "here", 1)
    (there,) = write_photos(tmp_path / "there", 1)
    before = there.read_bytes()
    for overwrite in (False, True):
        folders_given = [here.parent, there.parent]
        outcome = colorize_files(colorizer, folders_given, there.parent, overwrite)
        assert len(outcome.failed) == 2
        assert there.read_bytes() == before


def test_a_folder_into_itself_is_one_line(colorizer, tmp_path):
    photos = write_photos(tmp_path / "in", 3)
    before = [photo.read_bytes() for photo in photos]
    for overwrite in (False, True):
        outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "in", overwrite)
        assert outcome.failed == [
            f"{tmp_path / 'in'}: is the folder of the photos; give another --out"
        ]
        assert outcome.colored == 0
    assert [photo.read_bytes() for photo in photos] == before


def test_what_is_done_is_skipped_unless_wanted_again(colorizer, tmp_path):
    write_photos(tmp_path / "in", 3)
    job = (colorizer, [tmp_path / "in"], tmp_path / "out")
    assert colorize_files(*job).colored == 3
    (tmp_path / "out" / "scene-01.png").unlink()
    kept = (tmp_path / "out" / "scene-00.png").stat().st_mtime_ns
    outcome = colorize_files(*job)
    assert (outcome.colored, outcome.skipped) == (1, 2)
    assert (tmp_path / "out" / "scene-00.png").stat().st_mtime_ns == kept
    assert colorize_files(*job, overwrite=True).colored == 3


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_result_of_another_photo_of_that_name_is_no_result(colorizer, tmp_path, suffix):
    out, name = tmp_path / "out", f"scan{suffix}"
    for seed, album in enumerate(("first", "second", "larger")):
        (tmp_path / album).mkdir()
        size = (300, 200) if album == "larger" else (150, 100)
        Image.fromarray(scene(seed % 2, *size)).save(tmp_path / album / name)
    assert colorize_files(colorizer, [tmp_path / "first"], out).colored == 1
    before = (out / name).read_bytes()
    for album in ("second", "larger"):
        outcome = colorize_files(colorizer, [tmp_path / album], out)
        assert (outcome.colored, outcome.skipped) == (0, 0)
        assert outcome.failed == [
            f"{tmp_path / album / name}: {out / name} is of another photo; "
            "give another --out, or --overwrite"
        ]
        assert (out / name).read_bytes() == before
    outcome = colorize_files(colorizer, [tmp_path / "second"], out, overwrite=True)
    assert (outcome.colored, outcome.failed) == (1, [])


@pytest.mark.parametrize("broken", [b"", b"no photo"])
def test_what_is_no_whole_result_is_made_again(colorizer, tmp_path, broken):
    (photo,) = write_photos(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / photo.name).write_bytes(broken)
    outcome = colorize_files(colorizer, [photo], tmp_path / "out")
    assert (outcome.colored, outcome.skipped, outcome.failed) == (1, 0, [])
    assert open_photo(tmp_path / "out" / photo.name).size == (80, 64)


def test_a_bad_photo_does_not_cost_what_has_its_name(colorizer, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "scene-00.png").write_bytes(b"no photo")
    (result,) = write_photos(tmp_path / "out", 1)
    before = result.read_bytes()
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")
    assert (outcome.colored, outcome.skipped, len(outcome.failed)) == (0, 0, 1)
    assert result.read_bytes() == before


def test_results_inside_the_folder_are_not_colored_again(colorizer, tmp_path):
    write_photos(tmp_path, 1)
    for out in (tmp_path / "coloured", tmp_path / "." / "x" / ".." / "coloured"):
        (tmp_path / "x").mkdir(exist_ok=True)
        assert colorize_files(colorizer, [tmp_path], out).failed == []
    assert names(tmp_path) == ["coloured/scene-00.png", "scene-00.png"]


def test_the_folder_of_the_photos_takes_no_result_at_all(colorizer, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(scene(0)).save(folder / "moving.gif")
    for inputs in ([folder], [folder / "moving.gif"], [folder, *write_photos(folder, 2)]):
        for overwrite in (False, True):
            outcome = colorize_files(colorizer, inputs, folder, overwrite, compare=True)
            assert outcome.failed == [f"{folder}: is the folder of the photos; give another --out"]
            assert (outcome.colored, outcome.skipped) == (0, 0)
    assert names(folder) == ["moving.gif", "scene-00.png", "scene-01.png"]


def test_earlier_results_below_a_folder_are_passed_over_and_named(colorizer, tmp_path):
    write_photos(tmp_path / "in", 1)
    colorize_files(colorizer, [tmp_path / "in"], tmp_path / "in" / "coloured", compare=True)
    write_photos(tmp_path / "in" / "sub" / "coloured", 1)
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "in" / "stronger")
    assert names(tmp_path / "in" / "stronger") == ["scene-00.png"]
    assert outcome.failed == []
    assert outcome.notes == [
        f"{tmp_path / 'in' / name}: passed over, it looks like results; give it by name if not"
        for name in ("coloured", "sub/coloured")
    ]
    named = tmp_path / "in" / "sub" / "coloured"
    outcome = colorize_files(colorizer, [tmp_path / "in", named], tmp_path / "named")
    assert len(outcome.notes) == 2
    outcome = colorize_files(colorizer, [named], tmp_path / "alone")
    assert (outcome.colored, outcome.notes) == (1, [])


def test_a_photo_of_a_comparisons_name_is_said(colorizer, tmp_path):
    (tmp_path / "in" / "compare").mkdir(parents=True)
    Image.fromarray(scene(0)).save(tmp_path / "in" / "a.jpg")
    Image.fromarray(scene(1)).save(tmp_path / "in" / "compare" / "a.jpg.jpg")
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "plain")
    assert (outcome.colored, outcome.failed) == (2, [])
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out", compare=True)
    assert outcome.colored == 1
    assert outcome.failed == [
        f"{tmp_path / 'in' / 'compare' / 'a.jpg.jpg'}: {tmp_path / 'in' / 'a.jpg'} would have the "
        f"same name in {tmp_path / 'out'}"
    ]
    (photo,) = write_photos(tmp_path / "b", 1)
    (tmp_path / "b" / "compare").mkdir()
    original = tmp_path / "b" / "compare" / "x.png.jpg"
    Image.fromarray(scene(1)).save(original)
    before = original.read_bytes()
    photo.rename(tmp_path / "x.png")
    colorize_files(colorizer, [tmp_path / "x.png", original], tmp_path / "b", compare=True)
    assert original.read_bytes() == before


def test_a_pdf_is_named_and_what_to_do(colorizer, tmp_path):
    write_photos(tmp_path / "in", 1)
    for name in ("a.pdf", "b.PDF", "c.avif"):
        (tmp_path / "in" / name).touch()
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")
    assert outcome.notes == [f"{tmp_path / 'in'}: 3 left out, of kinds not read (.avif .pdf)"]
    (failed,) = colorize_files(colorizer, [tmp_path / "in" / "a.pdf"], tmp_path / "out").failed
    assert failed.endswith("a.pdf: is a PDF, no photo; save its pages as PNG or JPEG")


def test_a_folder_of_a_results_name_is_said(colorizer, tmp_path):
    photos = write_photos(tmp_path / "in", 2)
    result = tmp_path / "out" / photos[0].name
    result.mkdir(parents=True)
    for overwrite in (False, True):
        outcome = colorize_files(colorizer, photos, tmp_path / "out", overwrite)
        assert outcome.failed == [
            f"{photos[0]}: {result} is a folder; remove it, or give another --out"
        ]
    assert list(result.iterdir()) == []


def test_two_photos_of_one_name(colorizer, tmp_path):
    first, second = (write_photos(tmp_path / f, 1)[0] for f in ("a", "b"))
    (failed,) = colorize_files(colorizer, [first, second], tmp_path / "out").failed
    assert "same name" in failed
    assert names(tmp_path / "out") == ["scene-00.png"]


def test_a_photo_named_twice_is_coloured_once(colorizer, tmp_path):
    (photo,) = write_photos(tmp_path / "in", 1)
    (tmp_path / "link").symlink_to(photo.parent)
    again = tmp_path / "in" / ".." / "in" / photo.name
    inputs = [photo, photo, photo.parent, again, tmp_path / "link" / photo.name]
    outcome = colorize_files(colorizer, inputs, tmp_path / "out")
    assert (outcome.colored, outcome.failed) == (1, [])


def test_what_is_not_coloured_is_named(colorizer, tmp_path, monkeypatch):
    folder = tmp_path / "in"
    write_photos(folder, 1)
    Image.fromarray(scene(0)).save(folder / "b.JFIF", format="JPEG")
    Image.fromarray(scene(0)).save(folder / "c.jpe", format="JPEG")
    for name in ("d.cr2", "e.psd", "notes.txt"):
        (folder / name).touch()
    os.mkfifo(folder / "x.jpg")
    pages = [Image.fromarray(scene(i)) for i in range(3)]
    for name in ("m.tif", "m.gif"):
        pages[0].save(folder / name, save_all=True, append_images=pages[1:])
    outcome = colorize_files(colorizer, [folder], tmp_path / "out")
    assert outcome.colored == 5
    assert sorted(outcome.notes) == [
        f"{folder / 'm.gif'}: the first of 3 pages is coloured",
        f"{folder / 'm.tif'}: the first of 3 pages is coloured",
        f"{folder}: 2 left out, of kinds not read (.cr2 .psd)",
    ]
    (failed,) = outcome.failed
    assert "x.jpg" in failed
    assert names(tmp_path / "out") == ["b.JFIF", "c.jpe", "m.png", "m.tif", "scene-00.png"]


def test_a_link_to_itself_is_one_line_and_the_rest_goes_on(colorizer, tmp_path):
    (photo,) = write_photos(tmp_path / "in", 1)
    for name in ("loop", "loop.jpg"):
        (tmp_path / "in" / name).symlink_to(name)
    loop = tmp_path / "in" / "loop.jpg"
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")
    assert outcome.colored == 1
    (failed,) = outcome.failed
    assert failed.startswith(f"{loop}: cannot be read as a photo (")
    outcome = colorize_files(colorizer, [loop, photo], tmp_path / "again")
    assert (outcome.colored, outcome.failed) == (1, [failed])
    outcome = colorize_files(colorizer, [photo], tmp_path / "in" / "loop")
    (failed,) = outcome.failed
    assert failed.startswith(f"{photo}: ")


def test_a_name_that_cannot_be_looked_at_is_one_line_and_the_rest_goes_on(colorizer, tmp_path):
    (photo,) = write_photos(tmp_path, 1)
    long = tmp_path / f"{'n' * 300}.jpg"
    outcome = colorize_files(colorizer, [long, photo], tmp_path / "out")
    assert outcome.colored == 1
    (failed,) = outcome.failed
    assert failed.startswith(f"{long}: cannot be read as a photo (")


def test_metadata_that_a_result_cannot_hold_is_said(colorizer, tmp_path):
    Image.fromarray(scene(0)).save(tmp_path / "a.jpg", comment=b"scanned", format="JPEG")
    (tmp_path / "a.jpg").rename(tmp_path / "a.webp")
    outcome = colorize_files(colorizer, [tmp_path / "a.webp"], tmp_path / "out")
    assert outcome.notes == [f"{tmp_path / 'a.webp'}: its result does not hold its comment"]


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_photos_in_threads_come_out_as_one_by_one(colorizer, tmp_path, monkeypatch):
    write_photos(tmp_path / "in", 6)
    (tmp_path / "in" / "bad.png").write_bytes(b"no photo")
    used = []
    batch = colorizer.batch

    def watched(images, hints):
        used.append((torch.get_num_threads(), images[0].size))
        return batch(images, hints)

    monkeypatch.setattr(colorizer, "batch", watched)
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")
    assert (outcome.colored, len(outcome.failed)) == (6, 1)
    assert {threads for threads, _ in used} == {1}
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(folders, "_LARGE", 80 * 64 - 1)  # a large photo has the threads to itself
    used.clear()
    colorize_files(colorizer, [tmp_path / "in"], tmp_path / "large")
    assert {threads for threads, _ in used} == {2}
    monkeypatch.undo()
    for i in range(6):
        alone = colorizer(Image.fromarray(scene(i)))
        for out in ("out", "large"):
            colored = np.asarray(Image.open(tmp_path / out / f"scene-{i:02d}.png"))
            assert np.abs(colored.astype(int) - np.asarray(alone)).max() <= 1


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_stop_keeps_what_was_noted(colorizer, tmp_path, monkeypatch, error):
    write_photos(tmp_path / "in", 8)
    (tmp_path / "in" / "bad.png").write_bytes(b"no photo")
    save = folders.save_photo

    def stop(image, path, **options):
        if path.name == "scene-05.png":
            raise error
        return save(image, path, **options)

    monkeypatch.setattr(folders, "save_photo", stop)
    outcome = folders.Outcome()
    with pytest.raises(type(error)):
        colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out", outcome=outcome)
    assert outcome.colored == 5
    assert "bad.png" in outcome.failed[0]
    assert torch.get_num_threads() == 2


def test_who_keeps_its_name_wins_and_the_other_is_named_every_time(colorizer, tmp_path):
    for suffix in ("gif", "png"):
        Image.fromarray(scene(0)).save(tmp_path / f"same.{suffix}")
    for _ in range(2):
        (failed,) = colorize_files(colorizer, [tmp_path], tmp_path / "out").failed
        assert failed.startswith(str(tmp_path / "same.gif"))
    with Image.open(tmp_path / "out" / "same.png") as colored:
        assert colored.size == (80, 64)


def test_transparency_in_a_file_named_jpg(colorizer, tmp_path):
    Image.fromarray(scene(0)).convert("RGBA").save(tmp_path / "odd.jpg", format="PNG")
    assert colorize_files(colorizer, [tmp_path / "odd.jpg"], tmp_path / "out").failed == []
    with Image.open(tmp_path / "out" / "odd.jpg") as colored:
        assert (colored.format, colored.mode) == ("JPEG", "RGB")
        sampling = {component[1:3] for component in colored.layer}
    assert sampling == {(1, 1)}  # colour is as sharp as lightness


def test_an_unknown_suffix_is_one_line(colorizer, tmp_path):
    Image.fromarray(scene(0)).save(tmp_path / "photo", format="PNG")
    (failed,) = colorize_files(colorizer, [tmp_path / "photo"], tmp_path / "out").failed
    assert "unknown kind of photo" in failed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["photo", "photo.jpg", "-", "photo.tga"])
def test_what_is_not_there_is_said_so_whatever_its_name(colorizer, tmp_path, name):
    (failed,) = colorize_files(colorizer, [tmp_path / name], tmp_path / "out").failed
    assert failed == f"{tmp_path / name}: no such file"


def test_comparisons_show_grey_and_coloured(colorizer, tmp_path):
    Image.fromarray(scene(0, 3000, 1000)).save(tmp_path / "wide.png")
    colorize_files(colorizer, [tmp_path / "wide.png"], tmp_path / "out", compare=True)
    with Image.open(tmp_path / "out" / "compare" / "wide.png.jpg") as both:
        assert both.size == (2 * 1200 + 8, 400)
        chroma = np.ptp(np.asarray(both).astype(int), axis=-1)
    assert chroma[:, :1200].mean() < 2
    assert chroma[:, -1200:].mean() > 5


def test_comparisons_of_what_is_done_are_made_without_colouring_it_again(colorizer, tmp_path):
    write_photos(tmp_path / "in", 2)
    job = (colorizer, [tmp_path / "in"], tmp_path / "out")
    colorize_files(*job, compare=True)
    made = {path: path.read_bytes() for path in (tmp_path / "out" / "compare").iterdir()}
    assert len(made) == 2
    for path in made:
        path.unlink()
    before = (tmp_path / "out" / "scene-00.png").stat().st_mtime_ns
    for compared in (2, 0):
        outcome = colorize_files(*job, compare=True)
        assert (outcome.colored, outcome.skipped, outcome.compared) == (0, 2, compared)
        assert {path: path.read_bytes() for path in made} == made
    assert (tmp_path / "out" / "scene-00.png").stat().st_mtime_ns == before


class OnGpu:
    """A colorizer that says it is on a GPU, and notes how many photos it is given."""

    device = torch.device("cuda")

    def __init__(self, colorizer, most=99):
        self.colorizer, self.most, self.given = colorizer, most, []

    def batch(self, images, *hints):
        self.given.append(len(images))
        if len(images) > self.most:
            raise torch.OutOfMemoryError("too many photos")
        return self.colorizer.batch(images, *hints)


def test_a_gpu_gets_several_photos_at_once(colorizer, tmp_path, monkeypatch):
    write_photos(tmp_path / "in", 10)
    (tmp_path / "in" / "bad.png").write_bytes(b"no photo")
    gpu = OnGpu(colorizer)
    outcome = colorize_files(gpu, [tmp_path / "in"], tmp_path / "out")
    assert (outcome.colored, len(outcome.failed)) == (10, 1)
    assert gpu.given == [8, 2]
    colorize_files(colorizer, [tmp_path / "in"], tmp_path / "one by one")
    for name in names(tmp_path / "out"):
        pair = (np.asarray(Image.open(tmp_path / f / name)) for f in ("out", "one by one"))
        assert np.abs(next(pair).astype(int) - next(pair)).max() <= 3
    monkeypatch.setattr(folders, "_MOST_AT_ONCE", 80 * 64 * 2)
    gpu = OnGpu(colorizer)
    colorize_files(gpu, [tmp_path / "in"], tmp_path / "fewer")
    assert gpu.given == [3, 3, 3, 1]


def test_photos_that_are_too_many_at_once_go_one_by_one(colorizer, tmp_path):
    write_photos(tmp_path / "in", 3)
    gpu = OnGpu(colorizer, most=1)
    outcome = colorize_files(gpu, [tmp_path / "in"], tmp_path / "out")
    assert (outcome.colored, outcome.failed, gpu.given) == (3, [], [3, 1, 1, 1])
    outcome = colorize_files(OnGpu(colorizer, most=0), [tmp_path / "in"], tmp_path / "none")
    assert outcome.colored == 0
    assert outcome.failed[0] == f"{tmp_path / 'in' / 'scene-00.png'}: too many photos"


def test_a_batch_that_failed_is_let_go_of(colorizer, tmp_path):
    """Else what it took of the memory would be missing when its photos go one by one."""

    class Large:
        pass

    held = []

    class Gpu(OnGpu):
        def batch(self, images, *hints):
            large = Large()
            if len(images) > 1:
                held.append(weakref.ref(large))
                raise torch.OutOfMemoryError("too many photos")
            assert held[0]() is None
            return super().batch(images, *hints)

    write_photos(tmp_path / "in", 2)
    assert colorize_files(Gpu(colorizer), [tmp_path / "in"], tmp_path / "out").failed == []


def test_a_comparison_that_fails_costs_no_photo(colorizer, tmp_path):
    write_photos(tmp_path / "in", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "compare").write_text("not a folder")
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out", compare=True)
    assert (outcome.colored, outcome.failed) == (1, [])
    assert "not compared: " in outcome.notes[0]
    assert (tmp_path / "out" / "scene-00.png").exists()


def test_what_is_transparent_is_white_in_a_comparison(colorizer, tmp_path):
    image = Image.fromarray(scene(0)).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 40, 30))
    image.save(tmp_path / "a.png")
    colorize_files(colorizer, [tmp_path / "a.png"], tmp_path / "out", compare=True)
    with Image.open(tmp_path / "out" / "compare" / "a.png.jpg") as both:
        pixels = np.asarray(both)
    for left in (0, 88):
        assert pixels[:24, left : left + 32].min() > 240


def test_a_full_disk_stops_it(colorizer, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    write_photos(tmp_path / "in", 2)
    monkeypatch.setattr(folders, "save_photo", full)
    with pytest.raises(OSError, match="No space"):
        colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")


def test_a_file_cannot_be_the_folder(colorizer, tmp_path):
    (path,) = write_photos(tmp_path, 1)
    with pytest.raises(ColorizeError, match="is a file"):
        colorize_files(colorizer, [path], path)


def test_a_photos_name_is_no_folder_unless_there_is_one(colorizer, tmp_path):
    (photo,) = write_photos(tmp_path, 1)
    with pytest.raises(ColorizeError, match=r"result\.JPG: is the name of a photo; give a folder"):
        colorize_files(colorizer, [photo], tmp_path / "result.JPG")
    (tmp_path / "result.JPG").mkdir()
    assert colorize_files(colorizer, [photo], tmp_path / "result.JPG").colored == 1


def test_where_nothing_can_be_written_is_said_before_any_work(colorizer, tmp_path, monkeypatch):
    photos = write_photos(tmp_path / "in", 2)
    below = photos[0] / "x" / "y"
    with pytest.raises(ColorizeError) as told:
        colorize_files(colorizer, photos, below)
    assert str(told.value) == f"{below}: {photos[0]} is a file; give another --out"

    def refuse(prefix, dir):
        raise OSError(30, "Read-only file system", f"{dir}/{prefix}")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    monkeypatch.setattr(colorizer, "batch", None)
    out = tmp_path / "new" / "out"
    with pytest.raises(ColorizeError) as told:
        colorize_files(colorizer, photos, out)
    line = f"{out}: cannot be written to (Read-only file system); give another --out"
    assert str(told.value) == line
    assert names(tmp_path) == ["in/scene-00.png", "in/scene-01.png"]
    monkeypatch.undo()
    colorize_files(colorizer, photos, out)
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert colorize_files(colorizer, photos, out).skipped == 2  # nothing is to be written


def test_what_cannot_be_written_is_told_without_numbers_and_hidden_names(colorizer, tmp_path):
    photos = write_photos(tmp_path / "in" / "sub", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").touch()
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")
    assert outcome.failed == [f"{photos[0]}: its result cannot be written (File exists)"]


def test_nothing_to_do_shows_no_bar(colorizer, tmp_path, capsys):
    photos = write_photos(tmp_path / "in", 1)
    for said in ("colouring", ""):
        colorize_files(colorizer, photos, tmp_path / "out")
        err = capsys.readouterr().err
        assert err.startswith(said)
    assert err == ""


def test_what_is_only_black_and_white_is_said(colorizer, tmp_path):
    for suffix in ("tif", "png"):
        Image.fromarray(scene(0)).convert("1").save(tmp_path / f"fax.{suffix}")
    outcome = colorize_files(colorizer, [tmp_path], tmp_path / "out")
    assert (outcome.colored, outcome.failed) == (2, [])
    assert sorted(outcome.notes) == [
        f"{tmp_path / name}: has only black and white, no greys to tell colours by"
        for name in ("fax.png", "fax.tif")
    ]


@pytest.mark.parametrize("overwrite", [False, True])
def test_links_in_the_folder_of_results_lead_nowhere_else(colorizer, tmp_path, overwrite):
    outside, out = tmp_path / "outside", tmp_path / "out"
    for folder in (tmp_path / "in", tmp_path / "in" / "sub", outside):
        write_photos(folder, 1)
    before = (outside / "scene-00.png").read_bytes()
    out.mkdir()
    for link in ("sub", "compare"):
        (out / link).symlink_to(outside)
    (out / "scene-00.png").symlink_to(outside / "not there.png")
    (tmp_path / "in" / "sub" / "new.png").write_bytes(before)
    outcome = colorize_files(colorizer, [tmp_path / "in"], out, overwrite, compare=True)
    assert outcome.colored == 1
    assert not (out / "scene-00.png").is_symlink()  # the link is replaced, not followed
    (note,) = outcome.notes
    for line in (*outcome.failed, note):
        assert f"a link leads out of {out}; remove it" in line
    assert len(outcome.failed) == 1 + overwrite  # else what is there already is passed over
    assert [path.name for path in outside.iterdir()] == ["scene-00.png"]
    assert (outside / "scene-00.png").read_bytes() == before


def test_odd_names_stay_names(colorizer, tmp_path):
    odd = ["a\\..\\up.png", "a\nb.png", "%2e%2e%2fup.png", "~.png", "$(touch up).png", "-x.png"]
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for name in odd:
        Image.fromarray(scene(0)).save(tmp_path / "in" / name)
    given = tmp_path / "in" / "sub" / ".." / ".." / "in"
    assert colorize_files(colorizer, [given], tmp_path / "x" / ".." / "out").failed == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(odd)
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "out", "x"}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_and_resolution_are_carried_over_and_the_photo_is_upright(colorizer, tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010F] = "A camera"
    exif[0x013B] = "A photographer"
    exif[0x8769] = {0x9003: "1936:03:01 12:00:00"}
    exif[0x8825] = {1: "N"}
    path = tmp_path / f"turned{suffix}"
    Image.fromarray(scene(0, 60, 40)).save(path, exif=exif.tobytes(), dpi=(300, 300))
    assert colorize_files(colorizer, [path], tmp_path / "out").failed == []
    with Image.open(tmp_path / "out" / path.name) as colored:
        assert colored.size == (40, 60)
        kept = colored.getexif()
        assert kept.get(0x0112, 1) == 1
        assert (kept[0x010F], kept[0x013B]) == ("A camera", "A photographer")
        assert kept.get_ifd(0x8769)[0x9003] == "1936:03:01 12:00:00"
        assert kept.get_ifd(0x8825)[1] == "N"
        if suffix != ".webp":
            assert colored.info["dpi"][0] == pytest.approx(300, abs=0.1)
    assert colorize_files(colorizer, [path], tmp_path / "out").skipped == 1


def test_damaged_exif_costs_nothing_but_itself(colorizer, tmp_path):
    path = tmp_path / "odd.jpg"
    Image.fromarray(scene(0)).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + b"\x07" * 90)
    assert colorize_files(colorizer, [path], tmp_path / "out").failed == []
    assert names(tmp_path / "out") == ["odd.jpg"]


def test_a_gif_becomes_a_png_and_keeps_what_is_transparent(colorizer, tmp_path):
    image = Image.fromarray(scene(0)).convert("RGBA")
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    image.save(tmp_path / "old.gif", save_all=True, append_images=[image.rotate(180)])
    colorize_files(colorizer, [tmp_path / "old.gif"], tmp_path / "out")
    with Image.open(tmp_path / "out" / "old.png") as colored:
        assert (colored.mode, colored.size) == ("RGBA", (80, 64))
        alpha = np.asarray(colored)[..., 3]
    assert (alpha[:20, :20] == 0).all()
    assert (alpha[30:] == 255).all()


def test_sixteen_bits_are_not_cut_without_a_word(colorizer, tmp_path):
    deep = np.asarray(Image.fromarray(scene(0)).convert("L")).astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    write_photos(tmp_path, 1)
    outcome = colorize_files(colorizer, [tmp_path], tmp_path / "out")
    assert outcome.failed == []
    (note,) = outcome.notes
    assert "deep.png: has more than 8 bits" in note


def grey(mode):
    image = Image.fromarray(scene(0, 90, 60)).convert("L").convert(mode)
    if "A" in mode:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


DEFLATED = {"compression": "tiff_deflate"}  # else Pillow 12 cannot read its own YCbCr TIFF
CORPUS = {
    "jpeg-grey.jpg": grey("L"),
    "jpeg-cmyk.jpg": grey("CMYK"),
    "png-1-bit.png": grey("1"),
    "png-palette.png": grey("P"),
    "png-alpha.png": grey("LA"),
    "png-deep.png": Image.fromarray(np.asarray(grey("L")).astype(np.uint16) * 257),
    "webp.webp": grey("RGB"),
    "webp-alpha.webp": grey("RGBA"),
    "tiff-1-bit.tif": grey("1"),
    "tiff-cmyk.tif": grey("CMYK"),
    "tiff-ycbcr.tif": grey("YCbCr"),
    "tiff-deep.tiff": Image.fromarray(np.asarray(grey("L")).astype(np.uint16) * 257),
    "tiff-float.tif": Image.fromarray(np.asarray(grey("L")).astype(np.float32) / 255),
    "bmp.bmp": grey("RGB"),
    "gif.gif": grey("P"),
    "phone.heic": grey("RGB"),
}


@pytest.mark.parametrize("name", CORPUS)
def test_every_kind_of_photo_comes_out_coloured_at_its_size_and_lightness(
    colorizer, tmp_path, name
):
    image = CORPUS[name]
    options = {} if image.mode == "F" or name == "tiff-deep.tiff" else {"quality": 95}
    if image.mode == "YCbCr":
        options = DEFLATED
    image.save(tmp_path / name, **options)
    outcome = colorize_files(colorizer, [tmp_path / name], tmp_path / "out")
    assert outcome.failed == []
    (written,) = (tmp_path / "out").iterdir()
    assert written.suffix == {".gif": ".png"}.get(Path(name).suffix, Path(name).suffix)
    before, after = open_photo(tmp_path / name), open_photo(written)
    assert after.size == (90, 60)
    assert after.has_transparency_data == ("alpha" in name)
    light = [np.asarray(in_grey(photo)).astype(int) for photo in (before, after)]
    assert np.abs(light[0] - light[1]).mean() < 2
    again = colorize_files(colorizer, [tmp_path / name], tmp_path / "out")
    assert (again.skipped, again.failed) == (1, [])  # it is known to be this photo's
    if "1-bit" not in name:  # black and white have no room for a colour
        assert np.ptp(np.asarray(after.convert("RGB")).astype(int), axis=-1).mean() > 5


def mutate(content, random):
    """A file that something has happened to."""
    content = bytearray(content)
    kind = random.integers(4)
    if kind == 0:  # bytes flipped
        for at in random.integers(0, len(content), random.integers(1, 40)):
            content[at] ^= int(random.integers(1, 256))
    elif kind == 1:  # cut short
        del content[random.integers(0, len(content)) :]
    elif kind == 2:  # header changed
        for at in random.integers(0, min(64, len(content)), 4):
            content[at] = int(random.integers(256))
    else:  # a run of 0xff, where sizes are large
        at = int(random.integers(0, min(400, len(content))))
        content[at : at + 4] = b"\xff\xff\xff\xff"[: random.integers(1, 5)]
    return bytes(content)


def write_mutated(folder, count, seed=0):
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    whole = []
    for name, image in CORPUS.items():
        image.save(folder / name, **(DEFLATED if image.mode == "YCbCr" else {}))
        whole.append((Path(name).suffix, (folder / name).read_bytes()))
        (folder / name).unlink()
    for i in range(count):
        suffix, content = whole[i % len(whole)]
        (folder / f"{i:04d}{suffix}").write_bytes(mutate(content, random))


def test_mutated_files_come_out_or_give_one_line(colorizer, tmp_path):
    write_mutated(tmp_path / "in", 160)
    outcome = colorize_files(colorizer, [tmp_path / "in"], tmp_path / "out")
    assert outcome.colored + len(outcome.failed) == 160
    assert outcome.colored > 20
    assert len(outcome.failed) > 20
    assert len(names(tmp_path / "out")) == outcome.colored  # nothing is left of those that failed
    for line in outcome.failed:
        assert line.count("\n") == 0
        assert line.startswith(str(tmp_path / "in"))


def test_a_decompression_bomb_is_refused(colorizer, tmp_path):
    bomb = Image.new("1", (20_000, 20_000))
    bomb.save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 100_000
    (failed,) = colorize_files(colorizer, [tmp_path], tmp_path / "out").failed
    assert "bomb.png" in failed
    assert not (tmp_path / "out").exists()
