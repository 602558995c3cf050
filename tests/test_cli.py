"""The command line as a user meets it: whole commands, exit codes, one-line errors."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import scene, write_photos
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from colorize import __version__, cli, folders
from colorize.pretrained import save_weights
from colorize.system.errors import first_line, printable

pytestmark = pytest.mark.usefixtures("thin")

SETTINGS = (
    "--size 32 --batch-size 4 --encoder-weights none --pretrain-epochs 1 --gan-epochs 1 "
    "--discriminator-layers 1 --precision fp32"
)


def colorize(capsys, *args):
    """Exit code, standard output, and the lines of standard error that are not progress bars."""
    try:
        code = cli.main([str(a) for a in args])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    lines = [x for x in err.replace("\r", "\n").splitlines() if x.startswith("colorize")]
    assert "Traceback" not in err
    return code, out, lines


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small finished run."""
    folder = tmp_path_factory.mktemp("run")
    write_photos(folder / "photos", 10)
    assert (
        cli.main(
            [
                "train",
                "--data",
                str(folder / "photos"),
                "--out",
                str(folder / "out"),
                *SETTINGS.split(),
            ]
        )
        == 0
    )
    return folder / "out"


def test_a_run_folder_holds_what_it_should(run):
    held = {p.name for p in run.iterdir()}
    assert held >= {
        "config.json",
        "history.csv",
        "samples",
        "checkpoints",
        "generator",
        "pretrained",
        "metrics.json",
        "grid.png",
        "curves.png",
        "left_out.json",
    }
    with open(run / "history.csv") as file:
        assert [row["stage"] for row in csv.DictReader(file)] == ["pretrain", "gan"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["photos"] == 1
    assert metrics["generator"].keys() >= {"l1", "psnr", "ssim", "ciede2000", "colorfulness"}
    assert sorted(p.name for p in (run / "samples").iterdir()) == [
        "gan-001.png",
        "pretrain-001.png",
    ]


def test_predict_photos_and_folders(run, tmp_path, capsys):
    write_photos(tmp_path / "in", 2)
    Image.fromarray(scene(5)).convert("L").save(tmp_path / "old.jpg")
    code, _, lines = colorize(
        capsys, "predict", tmp_path / "in", tmp_path / "old.jpg",
        "--weights", run / "generator", "--out", tmp_path / "out",
    )  # fmt: skip
    assert (code, lines) == (0, [])
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "old.jpg",
        "scene-00.png",
        "scene-01.png",
    ]


def test_predict_reports_bad_files_and_goes_on(run, tmp_path, capsys):
    write_photos(tmp_path / "in", 1)
    (tmp_path / "in" / "bad.png").touch()
    code, _, lines = colorize(
        capsys, "predict", tmp_path / "in", tmp_path / "gone.png",
        "--weights", run / "generator", "--out", tmp_path / "out",
    )  # fmt: skip
    assert code == 1
    assert len(lines) == 2
    assert (tmp_path / "out" / "scene-00.png").exists()


def test_predict_has_knobs_and_tells_what_it_did(run, tmp_path, capsys):
    write_photos(tmp_path / "in", 2)
    bad = tmp_path / "in" / "bad.png"
    bad.write_bytes(b"no photo")
    job = ["predict", tmp_path / "in", "--weights", run / "generator", "--out"]
    code, out, lines = colorize(capsys, *job, tmp_path / "plain")
    assert (code, len(lines)) == (1, 1)
    assert f"2 coloured in {tmp_path / 'plain'}, 1 failed" in out
    bad.unlink()
    code, out, lines = colorize(capsys, *job, tmp_path / "plain")
    assert (code, lines) == (0, [])
    assert "0 coloured" in out
    assert "2 skipped" in out
    knobs = ["--strength", "0", "--flip", "--size", "32", "--compare"]
    assert colorize(capsys, *job, tmp_path / "grey", *knobs)[0] == 0
    assert (tmp_path / "grey" / "compare" / "scene-00.png.jpg").is_file()
    with Image.open(tmp_path / "grey" / "scene-00.png") as grey:
        assert np.ptp(np.asarray(grey).astype(int), axis=-1).max() <= 1


def test_evaluate_prints_a_table_and_writes_json(run, tmp_path, capsys):
    write_photos(tmp_path / "in", 3)
    (tmp_path / "in" / "bad.png").touch()
    file = tmp_path / "measures.json"
    code, out, _ = colorize(
        capsys, "evaluate", "--data", tmp_path / "in", "--weights", run / "generator",
        "--size", 32, "--json", file, "--grid", tmp_path / "grid.jpg",
    )  # fmt: skip
    assert code == 0
    assert "psnr" in out
    assert "bad.png" in out
    measures = json.loads(file.read_text())
    assert measures["photos"] == 3
    with Image.open(tmp_path / "grid.jpg") as picture:
        assert picture.format == "JPEG"
    assert f"{measures['psnr']:.4f}" in out


def test_a_finished_run_is_not_overwritten(run, capsys):
    before = (run / "config.json").read_text()
    code, _, lines = colorize(capsys, "train", "--data", "builtin", "--out", run)
    assert code == 1
    assert "holds a run already" in lines[0]
    assert "--resume" in lines[0]
    assert (run / "config.json").read_text() == before


def test_resume_of_a_finished_run_changes_nothing(run, capsys):
    before = (run / "generator" / "model.safetensors").read_bytes()
    assert colorize(capsys, "train", "--out", run, "--resume")[0] == 0
    assert (run / "generator" / "model.safetensors").read_bytes() == before


def test_resume_keeps_the_settings(run, capsys):
    code, _, lines = colorize(
        capsys, "train", "--out", run, "--resume", "--size", 64, "--gan-lr", 1
    )
    assert code == 1
    assert "size, gan_lr would change" in lines[0]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("train --out {tmp}/r --data {tmp}/nowhere", "nowhere: no such folder"),
        ("train --out {tmp}/r --data {tmp}/empty", "no photos in this folder"),
        ("train --out {tmp}/r --data {tmp}/broken", "nothing to train on"),
        ("train --out {tmp}/r --resume", "no run here"),
        ("train --out {tmp}/r --pretrain-epochs 0 --gan-epochs 0", "nothing to train"),
        ("train --out {tmp}/file --data builtin --size 32 --encoder-weights none", "is a file"),
        ("train --out {tmp}/broken --data builtin", "holds other files"),
        ("train --out {tmp}/broken/run --data {tmp}/broken", "lies inside"),
        ("predict {tmp}/a.jpg --weights {run}/generator --out {tmp}/file", "file: is a file"),
        ("predict {tmp}/a.jpg --weights {run} --out {tmp}/o", "/generator"),
        ("evaluate --data {tmp}/nowhere --weights {run}/generator", "nowhere: no such folder"),
        ("evaluate --data {tmp}/broken --weights {run}/generator", "none of its 1 photos"),
        ("evaluate --data builtin --weights {tmp}/empty", "no weights folder"),
        ("predict {tmp}/a.jpg --weights {tmp}/nowhere --out {tmp}/o", "no such weights folder"),
        ("predict {tmp}/a.jpg --weights {run}/generator --out {tmp}/o", "a.jpg: no such file"),
        ("predict {tmp}/empty --weights {run}/generator --out {tmp}/o", "no photos in this folder"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_1(run, tmp_path, capsys, args, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "photo.jpg").write_bytes(b"\xff\xd8")
    code, _, lines = colorize(capsys, *args.format(tmp=tmp_path, run=run).split())
    assert code == 1
    assert len(lines) == 1
    assert says in lines[0]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("", "required: COMMAND"),
        ("train", "required: --out"),
        ("train --out r --size big", "'big' is not a size in pixels"),
        ("train --out r --size 16", "'16' is not a size in pixels"),
        ("train --out r --batch-size 0", "'0' is not a whole number above 0"),
        ("train --out r --val-fraction 2", "'2' is not a fraction"),
        ("train --out r --pretrain-lr nan", "'nan' is not a number"),
        ("train --out r --encoder vgg16", "invalid choice: 'vgg16'"),
        ("predict --weights w --out o", "required: PHOTO|FOLDER"),
        ("predict a.jpg --weights w --out o --strength 11", "'11' is not a number from 0 to 10"),
        ("predict a.jpg --weights w --smoothness -1", "'-1' is not a number from 0 to 1000"),
        ("export --weights w --out model.pt", "'model.pt' is not an .onnx file"),
        ("evaluate --weights w", "required: --data"),
        ("paint", "invalid choice: 'paint'"),
        ("evaluate --data d --weights w --grid g.foo", "'g.foo' is not a .png"),
        ("evaluate --data d --weights w --json .", "'.' is a folder"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, args, says):
    code, _, lines = colorize(capsys, *args.split())
    assert code == 2
    assert len(lines) == 1
    assert says in lines[0]


def test_an_unknown_option_points_to_the_help_of_its_command(capsys):
    for command, words in {
        "predict": "a.jpg --strenght 2",
        "evaluate": "--data d --sise 2",
    }.items():
        code, _, (line,) = colorize(capsys, command, *words.split())
        assert code == 2
        assert line.endswith(f"{words.split()[-2]} 2; see colorize {command} --help")


def test_the_version_is_told(capsys):
    assert colorize(capsys, "--version") == (0, f"colorize {__version__}\n", [])


def test_a_run_stopped_before_its_first_checkpoint_starts_again(run, tmp_path, capsys):
    write_photos(tmp_path / "in", 6)
    (tmp_path / "r" / "checkpoints").mkdir(parents=True)
    (tmp_path / "r" / "left_out.json").write_text("{}")
    args = ["train", "--data", tmp_path / "in", "--out", tmp_path / "r", *SETTINGS.split()]
    assert colorize(capsys, *args)[0] == 0


def test_resume_from_another_folder_with_moved_photos(tmp_path, capsys, monkeypatch):
    write_photos(tmp_path / "in", 6)
    monkeypatch.chdir(tmp_path)
    assert colorize(capsys, "train", "--data", "in", "--out", "r", *SETTINGS.split())[0] == 0
    monkeypatch.chdir("/")
    assert colorize(capsys, "train", "--out", tmp_path / "r", "--resume")[0] == 0
    (tmp_path / "in").rename(tmp_path / "moved")
    resume = ["train", "--out", tmp_path / "r", "--resume"]
    assert colorize(capsys, *resume)[0] == 1
    assert colorize(capsys, *resume, "--data", tmp_path / "moved")[0] == 0
    # Other colours under the same names are noticed.
    for path in (tmp_path / "moved").iterdir():
        Image.fromarray(scene(50)).save(path)
    code, _, lines = colorize(capsys, *resume, "--data", tmp_path / "moved")
    assert code == 1
    assert "have changed" in lines[0]


def test_names_that_are_no_text(run, tmp_path, capsys):
    write_photos(tmp_path / "in", 6)
    os.rename(tmp_path / "in" / "scene-00.png", os.fsencode(tmp_path / "in") + b"/caf\xe9.png")
    (tmp_path / "in" / "bad\nline.png").touch()
    args = ["train", "--data", tmp_path / "in", "--out", tmp_path / "r", *SETTINGS.split()]
    code, out, _ = colorize(capsys, *args)
    assert code == 0
    assert "1 unreadable left out: bad\\nline.png" in out
    weights = ["--weights", run / "generator"]
    code, _, lines = colorize(
        capsys, "predict", tmp_path / "in", *weights, "--out", tmp_path / "out"
    )
    assert (code, len(lines)) == (1, 1)
    assert len(list((tmp_path / "out").iterdir())) == 6


def test_a_full_disk_is_one_line(run, tmp_path, capsys, monkeypatch):
    write_photos(tmp_path / "in", 1)

    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path / "out"))

    monkeypatch.setattr(Image.Image, "save", full)
    code, _, lines = colorize(
        capsys, "predict", tmp_path / "in", "--weights", run / "generator", "--out", tmp_path / "o"
    )
    assert code == 1
    assert "no space left on the disk" in lines[0]


def test_a_stop_is_one_line_and_the_same_command_goes_on(run, tmp_path, capsys, monkeypatch):
    write_photos(tmp_path / "in", 3)
    words = ["predict", tmp_path / "in", "--weights", run / "generator", "--out", tmp_path / "o"]

    def stop(image, path, **options):
        if path.name == "scene-01.png":
            raise KeyboardInterrupt
        return save(image, path, **options)

    save = folders.save_photo
    with monkeypatch.context() as patch:
        patch.setattr(folders, "save_photo", stop)
        code, _, lines = colorize(capsys, *words)
    assert (code, lines) == (130, ["colorize: stopped; the same command goes on"])
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["scene-00.png"]
    code, out, _ = colorize(capsys, *words)
    assert code == 0
    assert out.startswith("2 coloured")


@pytest.mark.parametrize("words", [["--help"], ["predict", "photo.png", "--out", "out"]])
def test_who_stops_reading_is_told_nothing(words, run, tmp_path, monkeypatch):
    """`colorize ... | head -1`: a pipe whose reader has ended."""
    Image.fromarray(scene(0)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    if words[0] == "predict":
        words = [*words, "--weights", str(run / "generator")]
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", pipe)
        try:
            code = cli.main(words)
        except SystemExit as stop:
            code = stop.code
    assert code == (0 if words == ["--help"] else 141)
    assert words == ["--help"] or (tmp_path / "out" / "photo.png").is_file()


def test_running_out_of_memory_is_one_line(run, tmp_path, capsys, monkeypatch):
    import torch

    def exhausted(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("colorize.trainer.run_epoch", exhausted)
    write_photos(tmp_path / "in", 4)
    code, _, lines = colorize(
        capsys, "train", "--data", tmp_path / "in", "--out", tmp_path / "r", *SETTINGS.split()
    )
    assert code == 1
    assert "smaller batch size (--batch-size, BATCH_SIZE)" in lines[0]
    # Nothing was trained yet: the same command may be given again.
    monkeypatch.undo()
    code, _, _ = colorize(
        capsys, "train", "--data", tmp_path / "in", "--out", tmp_path / "r", *SETTINGS.split()
    )
    assert code == 0


def test_imagenet_weights_out_of_reach(tmp_path, capsys, monkeypatch):
    write_photos(tmp_path / "in", 4)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    train = ["train", "--data", tmp_path / "in", *SETTINGS.replace("none", "imagenet").split()]
    code, _, lines = colorize(capsys, *train, "--out", tmp_path / "r")
    assert code == 1
    assert "--encoder-weights none" in lines[0]
    train[train.index("imagenet")] = "auto"
    code, out, _ = colorize(capsys, *train, "--out", tmp_path / "r")
    assert code == 0
    assert "going on without them" in out


@pytest.mark.parametrize("words", ["--help", "train --help", "predict --no-such-option"])
def test_help_and_wrong_usage_need_not_wait_for_torch(words):
    code = (
        "import sys; from colorize import cli\n"
        "try:\n    cli.main(sys.argv[1:])\n"
        "except SystemExit:\n    heavy = {'torch', 'fastai', 'numpy', 'matplotlib'}\n"
        "    print('imported:', *heavy & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, *words.split()]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].strip() == "imported:"


@given(st.text(st.characters()))  # halves of surrogate pairs as well: bytes that are no characters
def test_any_text_can_be_printed_on_one_line(text):
    line = printable(text)
    assert line.isprintable()
    line.encode()
    assert (line == text) == text.isprintable()
    assert printable(line) == line


@given(st.text(st.characters()))
def test_the_first_line_of_any_error_is_one_short_line_that_says_something(text):
    line = first_line(ValueError(text))
    assert len(line.splitlines()) == 1
    assert line.strip()
    assert len(line) <= 124
    assert line.removesuffix(" ...") in text or line == "ValueError"


def test_predict_needs_nothing_but_a_photo(shipped, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (photo,) = write_photos(tmp_path / "photos", 1)
    code, out, errors = colorize(capsys, "predict", photo)
    assert (code, errors) == (0, [])
    assert out == "1 coloured in coloured\n"
    code, out, errors = colorize(capsys, "predict", "photos", "coloured")  # as a shell's * says
    assert (code, errors) == (0, [])
    assert out.startswith("0 coloured in coloured, 1 skipped")
    assert colorize(capsys, "predict", "photos", "--out", "new")[0] == 0
    code, out, errors = colorize(capsys, "predict", "new", "photos", "--out", "new")
    assert (code, errors) == (0, ["colorize: new: passed over, it is the folder for results"])
    assert out.startswith("0 coloured in new, 1 skipped")
    with Image.open(tmp_path / "coloured" / photo.name) as colored:
        assert colored.mode == "RGB"


def test_evaluate_says_that_grey_photos_tell_nothing_of_colour(shipped, tmp_path, capsys):
    (first, _) = write_photos(tmp_path / "photos", 2)
    with Image.open(first) as photo:
        photo.convert("L").save(first)
    code, out, errors = colorize(capsys, "evaluate", "--data", tmp_path / "photos", "--size", 32)
    assert (code, errors) == (0, [])
    assert "1 of 2 photos are grey: there are no colours to compare with" in out


def test_evaluate_names_the_weights_it_took_by_itself(shipped, tmp_path, capsys):
    write_photos(tmp_path / "photos", 1)
    file = tmp_path / "measures.json"
    code, _, errors = colorize(
        capsys, "evaluate", "--data", tmp_path / "photos", "--size", 32, "--json", file
    )
    assert (code, errors) == (0, [])
    assert json.loads(file.read_text())["weights"] == str(shipped)


@pytest.mark.parametrize(
    "words",
    [["predict", ""], ["predict", "a.jpg", "--out", ""], ["train", "--out", "r", "--data", ""]],
)
def test_an_empty_name_is_a_usage_error(capsys, words):
    """A shell's variable that is not set would else be the whole folder one is in."""
    code, _, lines = colorize(capsys, *words)
    assert code == 2
    assert "an empty name" in lines[0]


@pytest.mark.slow
def test_a_shell_may_close_a_stream_or_not_know_a_letter(tmp_path):
    write_photos(tmp_path, 1)
    words = f"{sys.executable} -m colorize predict scene-00.png"
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    for end in ("2>&-", ">&-", "<&-"):
        command = f"{words} --out 祖母{len(end)}{ord(end[0])} {end}"
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"Traceback" not in done.stderr
        if end != ">&-":
            assert b"1 coloured in \\u7956\\u6bcd" in done.stdout
    assert len(list(tmp_path.glob("祖母*/scene-00.png"))) == 3


def test_predict_takes_hints_for_one_photo(hinted, tmp_path, capsys):
    save_weights(hinted, tmp_path / "weights")
    photos = write_photos(tmp_path / "photos", 2)
    file = tmp_path / "hints.json"
    file.write_text('[{"x": 60, "y": 20, "color": "#a03020"}]')

    def predict(*args):
        weights = ("--weights", tmp_path / "weights", "--out", tmp_path / "out", "--overwrite")
        return colorize(capsys, "predict", *args, *weights)

    assert predict(photos[0])[0] == 0
    plain = (tmp_path / "out" / photos[0].name).read_bytes()
    assert predict(photos[0], "--hints", file)[0] == 0
    assert (tmp_path / "out" / photos[0].name).read_bytes() != plain
    for several in (photos, [tmp_path / "photos"]):
        code, _, err = predict(*several, "--hints", file)
        assert code == 2
        assert "--hints: they are of one photo" in err[0]
    for text, line in {
        '[{"x": 80, "y": 0, "color": "red"}]': "hint 1: (80, 0) lies outside the photo, which is",
        '[{"x": 0, "y": 0, "color": "rot"}]': "hint 1: 'rot' is not a colour",
        "hello": "is not JSON",
        '[{\n"x" 1}]': 'is not JSON; give [{"x": 120, "y": 80, "color": "#a03020"}]; '
        "what is wrong is at line 2, column 5",
    }.items():
        file.write_text(text)
        code, _, err = predict(photos[0], "--hints", file)
        assert (code, len(err)) == (1, 1)
        assert f"hints.json: {line}" in err[0]
    assert (
        predict(photos[0], "--hints", tmp_path / "no.json")[2][0].count("no.json: No such file")
        == 1
    )


def test_hints_colour_a_photo_again_and_no_other_of_its_name(hinted, tmp_path, capsys):
    save_weights(hinted, tmp_path / "weights")
    (photo,) = write_photos(tmp_path / "photos", 1)
    (other,) = write_photos(tmp_path / "others", 1)
    Image.fromarray(scene(1)).save(other)
    file = tmp_path / "hints.json"
    file.write_text('[{"x": 60, "y": 20, "color": "#a03020"}]')
    words = ("--weights", tmp_path / "weights", "--out", tmp_path / "out")
    result = tmp_path / "out" / photo.name
    assert colorize(capsys, "predict", photo, *words)[0] == 0
    plain = result.read_bytes()
    assert colorize(capsys, "predict", photo, *words, "--hints", file)[1].startswith("1 coloured")
    assert (red := result.read_bytes()) != plain
    code, _, err = colorize(capsys, "predict", other, *words, "--hints", file)
    assert (code, len(err)) == (1, 1)
    assert "is of another photo" in err[0]
    assert result.read_bytes() == red
    file.write_text("[]")  # all of them taken away again
    assert colorize(capsys, "predict", photo, *words, "--hints", file)[1].startswith("1 coloured")
    assert result.read_bytes() == plain
    code, out, _ = colorize(capsys, "predict", photo, *words, "--compare")
    assert code == 0
    assert "0 coloured" in out
    assert ", 1 of them compared now" in out


def test_hints_for_weights_that_know_none_are_one_line(shipped, tmp_path, capsys):
    (photo,) = write_photos(tmp_path / "photos", 1)
    (tmp_path / "hints.json").write_text('[{"x": 0, "y": 0, "color": "red"}]')
    args = ("--hints", tmp_path / "hints.json", "--out", tmp_path / "out")
    code, _, err = colorize(capsys, "predict", photo, *args)
    assert (code, len(err)) == (1, 1)
    assert "the weights that come along: know no colour hints; train with --hints" in err[0]
    assert not (tmp_path / "out").exists()
