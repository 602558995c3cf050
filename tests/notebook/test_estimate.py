"""The estimate: in proportion to epochs and photos."""

from dataclasses import replace

import pytest

from colorize.config import TrainConfig
from colorize.discriminator import PatchGAN
from colorize.notebook import estimate

pytestmark = pytest.mark.usefixtures("thin")

CONFIG = TrainConfig(batch_size=2, pretrain_epochs=3, gan_epochs=2, precision="fp32")


def test_minutes_grow_with_epochs_and_photos(photos, small_generator, monkeypatch):
    speeds = {"pretrain": 12.0, "gan": 3.0}
    monkeypatch.setattr(estimate, "photos_per_second", lambda *job: speeds[job[4]])
    job = (photos, small_generator, PatchGAN(width=8))
    times = estimate.minutes(CONFIG, *job)
    assert times == pytest.approx({"pretrain": 3 * 6 / 12 / 60, "gan": 2 * 6 / 3 / 60})
    more = estimate.minutes(replace(CONFIG, repeats=10, gan_epochs=0), *job)
    assert more == {"pretrain": pytest.approx(10 * times["pretrain"]), "gan": 0}
