"""Settings survive JSON, and unknown ones are named."""

import json

import pytest

from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.errors import ColorizeError


def test_settings_survive_json():
    config = RunConfig(
        data=DataConfig(source="coco", max_photos=5),
        train=TrainConfig(gan_betas=(0.1, 0.2), objective="hinge"),
        encoder="resnet34",
    )
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("values", [{"colour": 1}, {"train": {"colour": 1}}])
def test_unknown_settings_are_named(values):
    with pytest.raises(ColorizeError, match="colour"):
        RunConfig.from_dict(values)
