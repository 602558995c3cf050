"""A short version of soak.py: kills at random moments, and all that a stop must not cost."""

import pytest
from conftest import PATIENCE, write_photos
from soak import command, differences, soak, start


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_an_unbroken_one(tmp_path):
    write_photos(tmp_path / "photos", 14)
    for result in soak(tmp_path, kills=5, epochs=4):
        print(result)
    assert result.kills >= 3  # a fast machine may be done before the last
    assert max(result.steps_lost) <= 3  # an epoch
    unbroken = start(command(tmp_path, tmp_path / "unbroken", 4, 10), tmp_path / "log")
    assert unbroken.wait(PATIENCE) == 0
    assert differences(tmp_path / "broken", tmp_path / "unbroken") == []
