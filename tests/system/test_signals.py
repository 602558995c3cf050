"""A request to stop is heard, also where Python drops exceptions, and obeyed in order."""

import signal
import subprocess
import sys
import time

import pytest
from conftest import PATIENCE, write_photos

from colorize.pretrained import load_generator
from colorize.training.checkpoint import checkpoint_path, load_checkpoint

SETTINGS = "--size 32 --batch-size 4 --encoder-weights none --gan-epochs 0"
LOST = """
import time
from colorize.system.signals import stop_in_order

class Deaf:
    def __del__(self):
        print("here", flush=True)
        time.sleep(1)

stop_in_order()
try:
    Deaf()
    time.sleep(3600)
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_stops_a_run_in_order(tmp_path, how):
    if signal.getsignal(how) is signal.SIG_IGN:
        pytest.skip("the tests themselves were told to ignore it, as by nohup")
    write_photos(tmp_path / "photos", 10)
    words = ["train", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    words += [*SETTINGS.split(), "--pretrain-epochs", "1000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "colorize", *words], stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "run" / "samples" / "pretrain-002.png").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert said.endswith("colorize: stopped; train --resume goes on from the last checkpoint\n")
    assert not list((tmp_path / "run").rglob(".*"))
    assert load_checkpoint(checkpoint_path(tmp_path / "run"))["epoch"] >= 1
    load_generator(tmp_path / "run" / "generator")


def test_a_request_that_python_drops_is_made_again():
    """What is raised in a destructor is ignored."""
    command = [sys.executable, "-c", LOST]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=PATIENCE)[0] == "stopped\n"


def test_a_stop_before_the_first_checkpoint_says_to_start_again(tmp_path):
    write_photos(tmp_path / "photos", 150)  # a first epoch that a slow signal still finds at work
    words = ["train", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    process = subprocess.Popen(
        [sys.executable, "-m", "colorize", *words, *SETTINGS.split(), "--batch-size", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "to train on" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert said.endswith("stopped; there is no checkpoint yet, the same command starts again\n")
