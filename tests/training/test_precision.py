"""Which number format is picked on which device."""

from types import SimpleNamespace

import pytest
import torch

from colorize.system.errors import ColorizeError
from colorize.training import precision
from colorize.training.precision import pick_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("speedup", "expected"), [(2.0, "bf16"), (0.5, "fp32"), (1.1, "fp32")])
def test_a_cpu_takes_bf16_only_if_it_is_faster(monkeypatch, speedup, expected):
    monkeypatch.setattr(precision, "_bf16_speedup", lambda: speedup)
    assert pick_precision(device=CPU) == expected


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((7, 0), "fp16")],
)
def test_a_gpu_takes_bf16_if_it_has_it(monkeypatch, capability, expected):
    """And not if it says so and emulates it, as a T4 (7.5) does."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    assert pick_precision(device=CUDA) == expected


def test_a_wish_is_granted():
    assert pick_precision("bf16", CPU) == "bf16"
    assert pick_precision("fp16", CUDA) == "fp16"


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(ColorizeError, match="on a GPU only"):
        pick_precision("fp16", CPU)


def test_the_speedup_is_measured(monkeypatch):
    """By a clock on which a convolution takes a second, and a quarter of it in bf16.

    Of a corner of the picture: bf16 takes long where there is none.
    """
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    convolve = torch.nn.Conv2d.forward

    def take_time(self, x):
        y = convolve(self, x[..., :4, :4])
        clock.now += 0.25 if y.dtype == torch.bfloat16 else 1.0
        return y

    monkeypatch.setattr(precision, "time", clock)
    monkeypatch.setattr(torch.nn.Conv2d, "forward", take_time)
    assert precision._bf16_speedup() == 4
