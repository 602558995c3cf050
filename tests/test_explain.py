"""Looks inside: skips that are off, the field of view, several lambdas."""

import pytest
import torch

from colorize.config import TrainConfig
from colorize.discriminator import PatchGAN
from colorize.errors import ColorizeError
from colorize.explain import field_of_view, load_discriminator, vary_lambda, without_skip
from colorize.train import Trainer


def test_a_skip_can_be_off_and_is_on_again(small_generator):
    torch.nn.init.normal_(small_generator.head.weight)
    small_generator.eval()
    L = torch.rand(1, 1, 32, 32) - 0.5
    whole = without_skip(small_generator, None, L)
    for skip in range(5):
        assert not torch.allclose(without_skip(small_generator, skip, L), whole)
    assert torch.equal(without_skip(small_generator, None, L), whole)


@pytest.mark.parametrize(("layers", "side"), [(2, 34), (3, 70)])
def test_the_field_of_view_is_the_papers(layers, side):
    left, top, width, height = field_of_view(PatchGAN(layers=layers).eval(), 128)
    assert (width, height) == (side, side)
    assert left == pytest.approx((128 - side) / 2, abs=8)
    assert top == left


@pytest.fixture
def run(photos, small_generator, tmp_path):
    config = TrainConfig(batch_size=2, pretrain_epochs=1, gan_epochs=1, precision="fp32")
    trainer = Trainer(config, photos, small_generator, PatchGAN(), tmp_path, progress=False)
    trainer.pretrain()
    return config, trainer, tmp_path


def test_the_discriminator_of_a_run_can_be_had(run):
    _, trainer, folder = run
    with pytest.raises(ColorizeError, match="has not trained a discriminator"):
        load_discriminator(folder)
    trainer.train_gan()
    loaded = load_discriminator(folder)
    for own, kept in zip(loaded.parameters(), trainer.discriminator.parameters(), strict=True):
        assert torch.equal(own, kept)


def test_lambda_decides_how_far_the_gan_pulls(run, photos):
    config, _, folder = run
    trained = vary_lambda(config, photos, folder, (0.1, 1000.0))
    L = torch.rand(1, 1, 32, 32) - 0.5
    with torch.no_grad():
        few, many = (network(L) for network in trained.values())
    assert list(trained) == [0.1, 1000.0]
    assert not torch.allclose(few, many)
