"""The PatchGAN is the paper's: its size, its logits, its field of view."""

import pytest
import torch
from torch import nn

from colorize.discriminator import PatchGAN
from colorize.system.errors import ColorizeError


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


def test_it_starts_as_in_the_paper():
    convolutions, norms, slopes = [], [], []
    for module in PatchGAN().modules():
        if isinstance(module, nn.Conv2d):
            convolutions.append(module)
        elif isinstance(module, nn.BatchNorm2d):
            norms.append(module)
        elif isinstance(module, nn.LeakyReLU):
            slopes.append(module.negative_slope)
    assert slopes == [0.2] * 4
    assert [c.weight.std().item() for c in convolutions] == pytest.approx([0.02] * 5, rel=0.1)
    for norm in norms:
        assert norm.weight.mean().item() == pytest.approx(1.0, abs=0.01)
        assert norm.weight.std().item() == pytest.approx(0.02, rel=0.3)
    biases = [m.bias for m in (*convolutions, *norms) if m.bias is not None]
    assert len(biases) == 5
    assert not any(bias.any() for bias in biases)


def test_spectral_norm_bounds_what_a_layer_can_do():
    torch.manual_seed(0)
    discriminator = PatchGAN(norm="spectral")
    modules = list(discriminator.modules())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in modules)
    convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
    assert len(convolutions) == 5
    with torch.no_grad():
        for convolution in convolutions:
            convolution.parametrizations.weight.original.mul_(100)
        for _ in range(20):  # each look comes nearer to the largest singular value
            discriminator(torch.rand(1, 3, 64, 64))
        for convolution in convolutions:
            largest = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
            assert largest.item() == pytest.approx(1.0, abs=0.05)
    assert discriminator(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


def test_another_norm_is_refused():
    with pytest.raises(ColorizeError, match="'instance' is not one of batch, spectral"):
        PatchGAN(norm="instance")
