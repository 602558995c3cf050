"""A request to stop is heard, also where Python drops exceptions, and obeyed in order."""

import signal
import subprocess
import sys

import pytest
from commands import Command
from conftest import PATIENCE, write_photos

from colorize.pretrained import load_generator
from colorize.training.checkpoint import checkpoint_path, load_checkpoint

SETTINGS = "--size 32 --batch-size 4 --encoder-weights none --precision fp32 --gan-epochs 0"
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


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_stops_a_run_in_order(tmp_path, how):
    if signal.getsignal(how) is signal.SIG_IGN:
        pytest.skip("the tests themselves were told to ignore it, as by nohup")
    write_photos(tmp_path / "photos", 10)
    words = ["train", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    words += [*SETTINGS.split(), "--pretrain-epochs", "1000"]
    command = Command(tmp_path / "said.txt", *words)
    command.wait_until((tmp_path / "run" / "samples" / "pretrain-002.png").exists)
    command.send_signal(how)
    assert command.wait() == 130
    last = "colorize: stopped; train --resume goes on from the last checkpoint\n"
    assert command.said.endswith(last)
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


@pytest.mark.slow
def test_a_stop_before_the_first_checkpoint_says_to_start_again(tmp_path):
    write_photos(tmp_path / "photos", 150)  # a first epoch that a slow signal still finds at work
    words = ["train", "--data", str(tmp_path / "photos"), "--out", str(tmp_path / "run")]
    words += [*SETTINGS.split(), "--batch-size", "2"]
    command = Command(tmp_path / "said.txt", *words)
    command.wait_until(lambda: "to train on" in command.said)
    command.send_signal(signal.SIGTERM)
    assert command.wait() == 130
    last = "stopped; there is no checkpoint yet, the same command starts again\n"
    assert command.said.endswith(last)
