"""Looks inside: skips that are off, the field of view, several lambdas."""

import pytest
import torch

from colorize.config import TrainConfig
from colorize.dataset import to_network
from colorize.discriminator import PatchGAN
from colorize.notebook.explain import (
    ambiguous,
    field_of_view,
    fresh_discriminator,
    liveliest,
    vary_lambda,
    without_skip,
)
from colorize.pretrained import load_generator
from colorize.trainer import Trainer

pytestmark = pytest.mark.usefixtures("thin")


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


def test_the_liveliest_square_is_where_the_colour_is():
    ab = torch.zeros(2, 2, 40, 30)
    ab[0, 1, 20:29, 7:16] = -0.5
    ab[1, :, 31:, 21:] = 0.3
    ab[1, 0, 3, 3] = 1.0  # a single pixel is no thing
    squares = torch.cat(liveliest(ab))
    assert squares.tolist() == [[20, 7, 9], [31, 21, 9]]


@pytest.fixture
def run(photos, small_generator, tmp_path):
    config = TrainConfig(batch_size=2, pretrain_epochs=1, gan_epochs=1, precision="fp32")
    trainer = Trainer(config, photos, small_generator, PatchGAN(), tmp_path, progress=False)
    trainer.pretrain()
    return config, tmp_path


def test_lambda_decides_how_far_the_gan_pulls(run, photos):
    config, folder = run
    trained = vary_lambda(config, photos, folder, (0.1, 1000.0))
    L = torch.rand(1, 1, 32, 32) - 0.5
    with torch.no_grad():
        few, many = (network(L) for network in trained.values())
    assert list(trained) == [0.1, 1000.0]
    assert not torch.allclose(few, many)


def test_a_fresh_discriminator_tells_the_truth_from_l1(run, photos):
    config, folder = run
    discriminator = fresh_discriminator(config, photos, folder, epochs=10)
    L, ab = to_network(photos.train.middle(range(6), 32))
    with torch.no_grad():
        predicted = load_generator(folder / "pretrained")(L)
        true, false = (discriminator(torch.cat((L, x), 1)).mean() for x in (ab, predicted))
    assert true > false + 0.5


def test_opposite_colours_have_the_same_lightness(photos):
    both = ambiguous(photos)
    assert (len(both.train), len(both.val)) == (12, 4)
    L, ab = to_network(both.train.__getitems__(range(12)))
    assert (L[:6] - L[6:]).abs().max() < 0.02
    # Where both are inside sRGB they cancel out; the rest is nearer to grey in the opposite.
    assert (ab[:6] + ab[6:]).abs().median() < 0.02
    assert torch.equal(both.train[0], photos.train[0])
