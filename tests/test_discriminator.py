"""The PatchGAN is the paper's: its size, its logits, its field of view."""

import pytest
import torch

from colorize.discriminator import PatchGAN


def test_parameters_and_logits_are_those_of_the_paper():
    discriminator = PatchGAN()
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_633
    assert discriminator(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 64), (101, 77)])
def test_other_sizes(height, width):
    logits = PatchGAN()(torch.zeros(2, 3, height, width))
    assert logits.shape == (2, 1, height // 8 - 2, width // 8 - 2)


def test_each_logit_sees_70_by_70_pixels():
    discriminator = PatchGAN().eval()
    lab = torch.zeros(1, 3, 256, 256, requires_grad=True)
    discriminator(lab)[0, 0, 15, 15].backward()
    seen = lab.grad.abs().sum(1)[0] > 0
    assert (seen.any(0).sum().item(), seen.any(1).sum().item()) == (70, 70)
