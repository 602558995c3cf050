"""Bars: on stderr in a shell, one line a cell in a notebook."""

import sys
import types

import pytest

from colorize.system import progress


@pytest.fixture
def cell(monkeypatch):
    """A notebook, as far as a bar can tell: its lines, and the number of the cell that runs."""
    shell = types.SimpleNamespace(kernel=object(), execution_count=1)
    lines = []

    def display(data, raw, display_id):
        line = [data["text/plain"]]
        lines.append(line)
        update = lambda data, raw: line.append(data["text/plain"])  # noqa: E731
        return types.SimpleNamespace(update=update)

    module = types.ModuleType("IPython.display")
    module.display = display
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(progress, "_latest", None)
    return types.SimpleNamespace(shell=shell, lines=lines)


def test_a_shell_gets_a_bar_on_stderr(capsys):
    assert list(progress.bar(iter([1, 2]), "decoding", 2, "photo")) == [1, 2]
    err = capsys.readouterr().err
    assert "decoding: 100%" in err
    assert "2/2" in err


def test_a_cell_gets_one_line_for_all_its_bars(cell, capsys):
    for name in ("first", "second"):
        assert list(progress.bar(range(3), name)) == [0, 1, 2]
    assert len(cell.lines) == 1
    assert "second: 100%" in cell.lines[0][-1]
    assert "\n" not in cell.lines[0][-1]
    cell.shell.execution_count = 2
    list(progress.bar(range(3), "third"))
    assert len(cell.lines) == 2
    assert capsys.readouterr().err == ""


def test_a_fork_of_the_kernel_writes_to_stderr(cell, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_PROCESS", -1)
    list(progress.bar(range(3), "forked"))
    assert cell.lines == []
    assert "forked" in capsys.readouterr().err


def test_nothing_is_shown_unless_wanted(cell, capsys):
    assert list(progress.bar(range(3), "quiet", show=False)) == [0, 1, 2]
    assert cell.lines == []
    assert capsys.readouterr().err == ""


def test_a_file_gets_plain_lines_now_and_then(capsys):
    list(progress.bar(range(1000), "decoding", unit="photo"))
    err = capsys.readouterr().err
    assert "\r" not in err
    lines = err.splitlines()
    assert 1 <= len(lines) <= 3
    assert "decoding: 100%" in lines[-1]


def test_tqdm_s_own_switch_is_heeded(capsys, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert list(progress.bar(range(3), "quiet")) == [0, 1, 2]
    assert capsys.readouterr().err == ""
