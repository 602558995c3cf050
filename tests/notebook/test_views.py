"""What cells show: one view for all epochs, versions by stage, short errors."""

from IPython.core.interactiveshell import InteractiveShell
from PIL import Image

from colorize.notebook import views
from colorize.pretrained import save_weights
from colorize.system.errors import ColorizeError
from colorize.system.files import write_csv


def test_the_view_is_one_and_the_same_for_all_epochs(tmp_path, monkeypatch):
    shown, updated = [], []

    class Handle:
        def update(self, image):
            updated.append(image.data)

    def display(image, display_id):
        shown.append(image)
        return Handle()

    monkeypatch.setattr(views, "display", display)
    renew = views.live_view(tmp_path)
    assert not shown  # nothing is there yet
    (tmp_path / "samples").mkdir()
    for epoch in (1, 2):
        Image.new("RGB", (8, 8 + epoch)).save(tmp_path / "curves.png")
        Image.new("RGB", (9, 9)).save(tmp_path / "samples" / f"gan-{epoch:03d}.png")
        renew()
    assert (len(shown), len(updated)) == (2, 2)
    assert updated[0] == (tmp_path / "curves.png").read_bytes()
    views.live_view(tmp_path)  # later, with what is on the disk
    assert len(shown) == 4


def test_versions_are_named_by_the_stages_that_were_run(tmp_path, photos, small_generator):
    save_weights(small_generator, tmp_path / "generator")
    write_csv(tmp_path / "history.csv", [{"stage": "pretrain", "epoch": 1}])
    assert views.stage_weights(tmp_path) == {"coloured": tmp_path / "generator"}
    save_weights(small_generator, tmp_path / "pretrained")
    assert views.stage_weights(tmp_path) == {"L1": tmp_path / "pretrained"}
    write_csv(tmp_path / "history.csv", [{"stage": stage} for stage in ("pretrain", "gan")])
    weights = views.stage_weights(tmp_path)
    assert weights == {"L1": tmp_path / "pretrained", "L1 + GAN": tmp_path / "generator"}
    L, versions = views.predictions(photos.val.middle([0, 1], 32), weights)
    assert L.shape == (2, 1, 32, 32)
    assert list(versions) == ["L1", "L1 + GAN", "truth"]
    assert {tuple(ab.shape) for ab in versions.values()} == {(2, 2, 32, 32)}


def test_errors_for_the_user_are_one_line(capsys):
    shell = InteractiveShell.instance()
    try:
        views.one_line_errors()
        shell.push({"ColorizeError": ColorizeError})
        result = shell.run_cell("raise ColorizeError('a smaller batch')")
        assert isinstance(result.error_in_exec, ColorizeError)
        assert capsys.readouterr().out == "a smaller batch\n"
        shell.run_cell("raise OSError(28, 'No space left on device')")
        assert capsys.readouterr().out.startswith("no space left on the disk; nothing")
        shell.run_cell("import torch; raise torch.OutOfMemoryError('CUDA out of memory')")
        assert capsys.readouterr().out.startswith("out of memory; try a smaller batch size")
        for mistake in ("1 / 0", "open('no such file')"):
            shell.run_cell(mistake)
            assert "Traceback" in capsys.readouterr().out
    finally:
        InteractiveShell.clear_instance()
