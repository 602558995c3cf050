"""What a race may vary, as text; `test_config.py` has the options themselves."""

import pytest

from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.options import variants
from colorize.system.errors import ColorizeError

BASE = RunConfig(DataConfig("builtin", size=96), TrainConfig(gan_lr=1e-3))


def test_one_setting_with_several_values():
    found = variants(["objective=bce,lsgan,hinge"], BASE)
    assert list(found) == ["objective=bce", "objective=lsgan", "objective=hinge"]
    assert [config.train.objective for config in found.values()] == ["bce", "lsgan", "hinge"]
    assert all(config.train.gan_lr == 1e-3 for config in found.values())  # the rest is the base's


def test_the_average_of_the_weights_and_their_decay_may_be_varied():
    found = variants(["ema-decay=0.9,0.9995", "weight-decay=0"], BASE)
    kept = [(config.train.ema_decay, config.train.weight_decay) for config in found.values()]
    assert kept == [(0.9, 0.01), (0.9995, 0.01), (0.998, 0.0)]
    with pytest.raises(ColorizeError, match="'1' is not a number from 0 to below 1"):
        variants(["ema-decay=1", "default"], BASE)


def test_settings_of_one_text_multiply_and_texts_add_up():
    found = variants(
        [
            "discriminator_norm=batch,spectral lambda-l1=10,30",
            "default",
            "size=64 encoder=resnet34",
        ],
        BASE,
    )
    settings = [
        (c.train.discriminator_norm, c.train.lambda_l1, c.data.size, c.encoder)
        for c in found.values()
    ]
    assert settings == [
        ("batch", 10.0, 96, "resnet18"),
        ("batch", 30.0, 96, "resnet18"),
        ("spectral", 10.0, 96, "resnet18"),
        ("spectral", 30.0, 96, "resnet18"),
        ("batch", 100.0, 96, "resnet18"),
        ("batch", 100.0, 64, "resnet34"),
    ]
    assert list(found)[2] == "discriminator-norm=spectral lambda-l1=10"
    assert list(found)[4] == "default"


def test_an_option_without_a_value_is_yes_or_no():
    found = variants(["freeze-encoder=yes,no"], BASE)
    assert [config.train.freeze_encoder for config in found.values()] == [True, False]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "two variants or more"),
        (["objective=hinge"], "two variants or more"),
        (["default", "default"], "two variants or more"),
        (["objective"], "'objective' is not NAME=VALUE"),
        (["objective=bce,"], "lacks a value"),
        (["objective="], "lacks a value"),
        (["=bce"], "no setting ''"),
        (["objective=bce,gone"], "'gone'"),
        (["gan-lr=fast,1e-4"], "gan-lr: 'fast' is not a number"),
        (["size=16,32"], "size: '16' is not a size in pixels"),
        (["norm=batch,spectral"], "no setting 'norm'; is it discriminator-norm?"),
        (["objectiv=bce,hinge"], "no setting 'objectiv'; is it objective?"),
        (["colour=red,blue"], "no setting 'colour'; `train --help` lists all settings"),
        (["freeze-encoder=maybe,no"], "'maybe' is neither yes nor no"),
        (["objective=bce objective=hinge"], "names objective twice"),
        (["default", "objective=bce,hinge"], "'default' and 'objective=bce' are the same"),
        (["seed=0,1"], "seed cannot be varied: each is repeated with --seeds"),
        (["gan_epochs=1,2"], "gan-epochs cannot be varied"),
        (["data=here,there"], "data cannot be varied"),
        (["objective=bce,wgan-gp"], "objective=wgan-gp: wgan-gp punishes the gradient"),
    ],
)
def test_bad_input_is_one_line(texts, says):
    with pytest.raises(ColorizeError) as caught:
        variants(texts, BASE)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
