"""Files are written whole or not at all."""

import csv
import json

import pytest
from conftest import FILE_NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

from colorize.system.files import write_csv, write_json, write_whole


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), write_whole(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise ZeroDivisionError
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_text_can_be_written(tmp_path):
    write_csv(tmp_path / "a.csv", [{"photo": "日本.jpg"}, {"photo": "a\udcff.jpg"}])
    assert (tmp_path / "a.csv").read_bytes() == "photo\r\n日本.jpg\r\n".encode() + b"a\xff.jpg\r\n"


def test_history_of_two_stages_has_all_columns(tmp_path):
    write_csv(tmp_path / "history.csv", [{"stage": "a", "l1": 1}, {"stage": "b", "d": 2}])
    assert (tmp_path / "history.csv").read_text().splitlines() == ["stage,l1,d", "a,1,", "b,,2"]


TEXTS = FILE_NAMES.map(lambda text: text.replace("\0", "0"))  # which Python 3.10 does not read
NUMBERS = st.integers() | st.floats(allow_nan=False)


@settings(max_examples=50)
@given(st.lists(st.dictionaries(TEXTS, TEXTS | NUMBERS, min_size=1), min_size=1))
def test_any_rows_come_back_from_csv(tmp_path, rows):
    path = tmp_path / "rows.csv"
    write_csv(path, rows)
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        back = list(csv.DictReader(file))
    columns = list(dict.fromkeys(name for row in rows for name in row))
    assert [list(row) for row in back] == [columns] * len(rows)
    for row, found in zip(rows, back, strict=True):
        assert found == {name: str(row.get(name, "")) for name in columns}
        numbers = {name: value for name, value in row.items() if isinstance(value, float)}
        assert {name: float(found[name]) for name in numbers} == numbers  # no digit is lost
