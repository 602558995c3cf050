"""The estimate: from real steps, in proportion, without touching the networks."""

import copy
from dataclasses import replace

import pytest
import torch

from colorize.config import TrainConfig
from colorize.discriminator import PatchGAN
from colorize.notebook import estimate

pytestmark = pytest.mark.usefixtures("thin")

CONFIG = TrainConfig(batch_size=2, pretrain_epochs=3, gan_epochs=2, precision="fp32")


def test_speed_is_measured_and_the_networks_stay_as_they_are(photos, small_generator):
    before = copy.deepcopy(small_generator.state_dict())
    config = replace(CONFIG, gan_epochs=3, discriminator_first=2.0)
    speed = estimate.photos_per_second(config, photos, small_generator, PatchGAN(width=8), "gan", 2)
    assert 0 < speed < float("inf")
    assert all(torch.equal(before[k], v) for k, v in small_generator.state_dict().items())


def test_few_photos_are_shown_as_often_as_many_would_be(photos, small_generator, monkeypatch):
    taken = []

    class Recorder(estimate.Trainer):
        def __init__(self, config, photos, *rest, **options):
            super().__init__(config, photos, *rest, **options)
            taken.append(len(self.batches))

    monkeypatch.setattr(estimate, "Trainer", Recorder)
    estimate.photos_per_second(CONFIG, photos, small_generator, PatchGAN(width=8), "pretrain", 8)
    assert taken == [9]  # six photos three times, two a step


def test_minutes_grow_with_epochs_and_photos(photos, small_generator, monkeypatch):
    speeds = {"pretrain": 12.0, "gan": 3.0}
    monkeypatch.setattr(estimate, "photos_per_second", lambda *job: speeds[job[4]])
    job = (photos, small_generator, PatchGAN(width=8))
    times = estimate.minutes(CONFIG, *job)
    assert times == pytest.approx({"pretrain": 3 * 6 / 12 / 60, "gan": 2 * 6 / 3 / 60})
    more = estimate.minutes(replace(CONFIG, repeats=10, gan_epochs=0), *job)
    assert more == {"pretrain": pytest.approx(10 * times["pretrain"]), "gan": 0}
