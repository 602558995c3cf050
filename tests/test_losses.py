"""Losses against numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from colorize.config import OBJECTIVES
from colorize.discriminator import PatchGAN
from colorize.losses import FeatureLoss, gan_loss, gradient_penalty, l1_loss
from colorize.system.errors import ColorizeError

LOGITS = torch.tensor([0.0, 2.0, -1.0, 3.0]).view(1, 1, 2, 2)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.mark.parametrize(
    ("objective", "real", "expected"),
    [
        # BCE with logits: softplus(-x) for real, softplus(x) for fake
        ("bce", True, (softplus(0) + softplus(-2) + softplus(1) + softplus(-3)) / 4),
        ("bce", False, (softplus(0) + softplus(2) + softplus(-1) + softplus(3)) / 4),
        ("lsgan", True, (1 + 1 + 4 + 4) / 4),
        ("lsgan", False, (0 + 4 + 1 + 9) / 4),
        ("hinge", True, (1 + 0 + 2 + 0) / 4),
        ("hinge", False, (1 + 3 + 0 + 4) / 4),
        ("wgan-gp", True, -(0 + 2 - 1 + 3) / 4),
        ("wgan-gp", False, (0 + 2 - 1 + 3) / 4),
    ],
)
def test_gan_loss_by_hand(objective, real, expected):
    assert gan_loss(LOGITS, real, objective).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("objective", ["hinge", "wgan-gp"])
def test_the_generator_maximises_the_logits(objective):
    loss = gan_loss(LOGITS, True, objective, for_discriminator=False)
    assert loss.item() == pytest.approx(-1.0)


def test_losses_are_computed_in_float32():
    assert gan_loss(LOGITS.half(), True).dtype == torch.float32
    assert l1_loss(LOGITS.half(), LOGITS.half()).dtype == torch.float32


def test_unknown_objective_is_named():
    with pytest.raises(ColorizeError, match=rf"'wgan'.*{', '.join(OBJECTIVES)}$"):
        gan_loss(LOGITS, True, "wgan")


def test_scales_count_alike_however_many_patches_they_have():
    few = torch.full((1, 1, 1, 1), 6.0)
    assert gan_loss([LOGITS, few], True, "wgan-gp").item() == pytest.approx(-(1.0 + 6.0) / 2)


def test_l1_by_hand():
    predicted = torch.tensor([0.5, -0.5]).view(1, 2, 1, 1)
    true = torch.tensor([0.25, 0.5]).view(1, 2, 1, 1)
    assert l1_loss(predicted, true).item() == pytest.approx((0.25 + 1.0) / 2)


class Linear(nn.Module):
    """A critic whose slope is known: a photo's score is the sum of its values by weights."""

    def __init__(self, weights):
        super().__init__()
        self.weights, self.seen = nn.Parameter(weights), []

    def forward(self, lab):
        self.seen.append(lab.detach())
        return (lab * self.weights).sum((1, 2, 3)).view(-1, 1, 1, 1)


@pytest.fixture
def colors():
    """L, true ab and false ab of three photos."""
    return torch.rand(3, 1, 4, 4), torch.rand(3, 2, 4, 4), -torch.rand(3, 2, 4, 4)


def test_the_penalty_of_a_linear_critic_by_hand(colors):
    """Its slope in ab is the length of ab's weights, everywhere; L's count for nothing."""
    critic = Linear(torch.randn(3, 4, 4))
    length = critic.weights[1:].detach().norm()
    penalty = gradient_penalty(critic, *colors)
    assert penalty.item() == pytest.approx((length.item() - 1) ** 2, rel=1e-5)
    penalty.backward()
    expected = 2 * (length - 1) * critic.weights.detach() / length
    torch.testing.assert_close(critic.weights.grad[1:], expected[1:])
    assert not critic.weights.grad[0].any()


def test_the_score_of_a_photo_is_the_mean_of_its_patches_and_scales(colors):
    patches = nn.Conv2d(3, 1, 1, bias=False)
    length = patches.weight[0, 1:].detach().norm().item()
    slope = length / 4  # 1/16 of the length at each of the 16 pixels
    expected = pytest.approx((slope - 1) ** 2, rel=1e-5)
    assert gradient_penalty(patches, *colors).item() == expected
    assert gradient_penalty(lambda lab: [patches(lab), patches(lab)], *colors).item() == expected


def test_the_penalty_looks_between_true_and_false_at_another_place_of_each_photo(colors):
    critic = Linear(torch.randn(3, 4, 4))
    gradient_penalty(critic, *colors)
    L, true, false = colors
    (lab,) = critic.seen
    assert torch.equal(lab[:, :1], L)
    shares = (lab[:, 1:] - false) / (true - false)
    for share in shares:
        torch.testing.assert_close(share, share.mean().expand_as(share), rtol=1e-4, atol=1e-4)
    assert len({round(share.mean().item(), 3) for share in shares}) == 3
    assert shares.min() >= 0
    assert shares.max() <= 1


def test_the_penalty_moves_the_discriminator_alone(colors):
    L, true, false = (nn.functional.interpolate(x, (32, 32)) for x in colors)
    discriminator = PatchGAN(width=4, norm="layer")
    false.requires_grad_()
    gradient_penalty(discriminator, L, true, false).backward()
    assert false.grad is None
    moved = {
        name: p.grad is not None and bool(p.grad.any())
        for name, p in discriminator.named_parameters()
    }
    assert all(moved[name] for name in moved if name.endswith("0.weight"))


def test_the_feature_loss_is_zero_for_the_truth_and_shows_the_way_to_it(imagenet_file):
    loss = FeatureLoss()
    L, true = torch.rand(2, 1, 32, 32) * 2 - 1, torch.rand(2, 2, 32, 32) - 0.5
    assert loss(L, true, true).item() == 0
    near, far = (loss(L, share * true, true).item() for share in (0.9, 0.0))
    assert 0 < near < far
    ab = torch.zeros_like(true, requires_grad=True)
    loss(L, ab, true).backward()
    assert loss(L, ab.detach() - 10 * ab.grad, true) < far
    assert not list(loss.parameters())


def test_the_feature_loss_by_hand(imagenet_file):
    loss = FeatureLoss()
    L, first, second = (
        torch.zeros(1, 1, 32, 32),
        torch.rand(1, 2, 32, 32),
        torch.zeros(1, 2, 32, 32),
    )
    pairs = zip(loss.features(L, first), loss.features(L, second), strict=True)
    apart = [(a - b).abs().mean().item() for a, b in pairs]
    assert len(apart) == 3
    assert loss(L, first, second).item() == pytest.approx(sum(apart) / 3, rel=1e-5)
