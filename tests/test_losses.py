"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from colorize.losses import gan_loss, l1_loss
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
    ],
)
def test_gan_loss_by_hand(objective, real, expected):
    assert gan_loss(LOGITS, real, objective).item() == pytest.approx(expected, rel=1e-6)


def test_the_generator_of_the_hinge_maximises_the_logits():
    loss = gan_loss(LOGITS, True, "hinge", for_discriminator=False)
    assert loss.item() == pytest.approx(-1.0)


def test_losses_are_computed_in_float32():
    assert gan_loss(LOGITS.half(), True).dtype == torch.float32
    assert l1_loss(LOGITS.half(), LOGITS.half()).dtype == torch.float32


def test_unknown_objective_is_named():
    with pytest.raises(ColorizeError, match=r"'wgan'.*bce, lsgan, hinge"):
        gan_loss(LOGITS, True, "wgan")


def test_l1_by_hand():
    predicted = torch.tensor([0.5, -0.5]).view(1, 2, 1, 1)
    true = torch.tensor([0.25, 0.5]).view(1, 2, 1, 1)
    assert l1_loss(predicted, true).item() == pytest.approx((0.25 + 1.0) / 2)
