"""The machine: named, advised on, and given batches that fit."""

import pytest
import torch

from colorize.system import device


class Gpu:
    def __init__(self, gigabytes):
        self.total_memory = gigabytes * 1e9


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def gpus(monkeypatch, count, gigabytes):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)

    def ask(answer):
        assert count == 1, "this would start CUDA before the processes are forked"
        return answer

    monkeypatch.setattr(torch.cuda, "is_available", lambda: ask(True))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: ask("Tesla T4"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: ask(Gpu(gigabytes)))


def test_without_a_gpu_it_says_how_to_get_one(no_gpu, monkeypatch):
    assert 'DATA = "auto" means the built-in' in device.describe_device()
    assert "Change runtime type" not in device.describe_device()
    monkeypatch.setattr(device, "IN_COLAB", True)
    assert "Change runtime type" in device.describe_device()


def test_gpus_are_named_or_counted(monkeypatch):
    gpus(monkeypatch, 1, 15)
    assert "Tesla T4" in device.describe_device()
    gpus(monkeypatch, 2, 15)
    assert "GPUS = 2" in device.describe_device()


@pytest.mark.parametrize(
    ("count", "gigabytes", "size", "expected"),
    [(1, 15, 128, 32), (1, 15, 256, 16), (1, 15, 512, 4), (1, 40, 256, 32), (2, 15, 256, 16)],
)
def test_the_batch_suits_the_gpu(monkeypatch, count, gigabytes, size, expected):
    gpus(monkeypatch, count, gigabytes)
    assert device.suit_batch_size(size) == expected


def test_the_batch_suits_a_cpu(no_gpu):
    assert device.suit_batch_size(256) == 8
    assert device.suit_batch_size(128) == 32
    assert device.suit_batch_size(2048) == 4
