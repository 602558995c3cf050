"""Settings survive JSON and the command line, and unknown ones are named."""

import argparse
import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from colorize.config import (
    DISCRIMINATOR_LAYERS,
    DISCRIMINATOR_NORMS,
    DISCRIMINATOR_POOLINGS,
    DISCRIMINATORS,
    ENCODER_WEIGHTS,
    ENCODERS,
    OBJECTIVES,
    PRECISIONS,
    DataConfig,
    RunConfig,
    TrainConfig,
)
from colorize.options import add_settings, settings
from colorize.system.errors import ColorizeError

COUNTS = st.integers(0, 10**9)
RATES = st.floats(0.0, 1e6)
# Absolute, as the command line makes them.
FOLDERS = st.text("aZ0 .-_=é日\n\udcff", min_size=1).map("/photos/a{}".format)
CONFIGS = st.builds(
    RunConfig,
    data=st.builds(
        DataConfig,
        source=st.sampled_from(["coco", "builtin"]) | FOLDERS,
        size=st.integers(32, 8192),
        max_photos=st.none() | st.integers(1, 10**9),
        val_fraction=st.floats(0.0, 0.9),
        crop_margin=RATES,
        min_colorfulness=RATES,
        cache=st.none() | FOLDERS,
    ),
    train=st.builds(
        TrainConfig,
        batch_size=st.integers(1, 10**9),
        min_crop_area=st.floats(0.01, 1.0),
        lightness_jitter=st.floats(0.0, 1.0),
        start_weights=st.none() | FOLDERS,
        repeats=COUNTS,
        epoch_photos=st.none() | st.integers(1, 10**9),
        pretrain_epochs=COUNTS,
        gan_epochs=COUNTS,
        pretrain_lr=RATES,
        gan_lr=RATES,
        gan_betas=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
        lambda_l1=RATES,
        lambda_features=RATES,
        lambda_penalty=RATES,
        discriminator=st.sampled_from(DISCRIMINATORS),
        discriminator_layers=st.sampled_from(DISCRIMINATOR_LAYERS),
        discriminator_pooling=st.sampled_from(DISCRIMINATOR_POOLINGS),
        discriminator_first=RATES,
        freeze_encoder=st.booleans(),
        objective=st.sampled_from(OBJECTIVES),
        discriminator_norm=st.sampled_from(DISCRIMINATOR_NORMS),
        weight_decay=RATES,
        ema_decay=st.floats(0.0, 1.0),
        checkpoint_minutes=RATES,
        keep_epochs=st.booleans(),
        encoder_weights=st.sampled_from(ENCODER_WEIGHTS),
        precision=st.sampled_from(PRECISIONS),
        seed=COUNTS,
    ),
    encoder=st.sampled_from(ENCODERS),
)
PARSER = argparse.ArgumentParser(add_help=False)
add_settings(PARSER)
OPTIONS = {action.dest: action.option_strings[0] for action in PARSER._actions}


def test_settings_survive_json():
    config = RunConfig(
        data=DataConfig(source="coco", max_photos=5),
        train=TrainConfig(gan_betas=(0.1, 0.2), objective="hinge"),
        encoder="resnet34",
    )
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(CONFIGS)
def test_any_settings_survive_json(config):
    assert RunConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@given(CONFIGS, CONFIGS, st.data())
def test_any_settings_survive_the_command_line(config, base, data):
    """Those that are given replace those of `base`, the others stay."""
    wanted, base_values = by_name(config), by_name(base)
    # Nothing says None, and a switch can only be set.
    sayable = {name for name in OPTIONS if not any(wanted[name] is x for x in (None, False))}
    options = {name: OPTIONS[name] for name in sayable}
    given = data.draw(st.sets(st.sampled_from(sorted(options))))
    values = {name: "" if wanted[name] is True else f"={wanted[name]}" for name in given}
    arguments = [options[name] + values[name] for name in sorted(given)]
    found = settings(PARSER.parse_args(arguments), base)
    assert by_name(found) == base_values | {name: wanted[name] for name in given}


@pytest.mark.parametrize(
    ("option", "least", "most", "step"),
    [
        ("--size", 32, 8192, 1),
        ("--batch-size", 1, 10**9, 1),
        ("--seed", 0, 10**9, 1),
        ("--val-fraction", 0.0, 0.9, 0.01),
        ("--lambda-l1", 0.0, 1e6, 1.0),
    ],
)
def test_limits_of_options_are_allowed_and_what_is_beyond_is_not(option, least, most, step):
    for value in (least, most):
        assert list(vars(PARSER.parse_args([f"{option}={value}"])).values()) == [value]
    for value in (least - step, most + step, "nan", "", "x"):
        with pytest.raises(SystemExit):
            PARSER.parse_args([f"{option}={value}"])


def by_name(config):
    """Each setting under the name that its option has in the parser."""
    parts = {"DataConfig": config.data, "TrainConfig": config.train}
    named = {f"{part}.{k}": v for part in parts for k, v in vars(parts[part]).items()}
    return named | {"RunConfig.encoder": config.encoder}


@given(st.text(), st.sampled_from([(), ("data",), ("train",)]))
def test_any_unknown_setting_is_refused(name, inside):
    values = known = RunConfig().to_dict()
    for part in inside:
        known = known[part]
    assume(name not in known)
    known[name] = 1
    with pytest.raises(ColorizeError) as error:
        RunConfig.from_dict(values)
    assert str(error.value).endswith(f": {name}")


@pytest.mark.parametrize("values", [{"colour": 1}, {"train": {"colour": 1}}])
def test_unknown_settings_are_named(values):
    with pytest.raises(ColorizeError, match="colour"):
        RunConfig.from_dict(values)


def test_weights_to_start_from_are_a_folder_from_anywhere_or_a_name_on_the_hub(
    tmp_path, monkeypatch
):
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    given = {"weights": str(tmp_path / "weights"), "somebody/landscapes": "somebody/landscapes"}
    for words, expected in given.items():
        args = PARSER.parse_args(["--start-weights", words])
        assert settings(args, RunConfig()).train.start_weights == expected


@pytest.mark.parametrize(
    ("changes", "size", "told"),
    [
        ({"objective": "wgan-gp"}, 256, "batch norm .*--discriminator-norm layer or spectral"),
        ({"discriminator_first": 2.0, "gan_epochs": 2}, 256, "more --gan-epochs"),
        ({"discriminator_layers": 5}, 95, "95x95 .* needs 96 pixels; .*--discriminator-layers"),
        ({"discriminator": "multiscale"}, 95, "needs 96 pixels"),
        ({"discriminator_pooling": 4}, 95, "needs 96 pixels; .*--discriminator-pooling"),
        ({"discriminator": "projected", "discriminator_pooling": 4}, 67, "needs 68 pixels"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes, size, told):
    with pytest.raises(ColorizeError, match=told) as error:
        TrainConfig(**changes).check(size)
    assert "\n" not in str(error.value)
    TrainConfig(**changes | {"gan_epochs": 0}).check(size)  # no GAN, nothing to refuse
    spared = {"discriminator_norm": "layer", "discriminator_first": 1.9}
    TrainConfig(**changes | spared).check(96)
