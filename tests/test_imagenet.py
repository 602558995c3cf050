"""The frozen ResNet-18 sees colours as torchvision's does, lets gradients through, and stays."""

import pytest
import torch
import torchvision
from torch import nn

from colorize.color import rgb_to_lab, scale_lab
from colorize.imagenet import MEAN, STD, Features, freeze
from colorize.system.errors import ColorizeError


def normalised(rgb):
    return torchvision.transforms.functional.normalize(rgb, MEAN, STD)


def test_features_are_those_of_the_network_for_the_photo_in_rgb(imagenet_file):
    rgb = torch.rand(2, 3, 70, 64)
    x = imagenet_file.conv1(normalised(rgb))
    x = imagenet_file.maxpool(imagenet_file.relu(imagenet_file.bn1(x)))
    features = Features()
    with torch.no_grad():
        for i, found in enumerate(features(*scale_lab(rgb_to_lab(rgb))), start=1):
            x = getattr(imagenet_file, f"layer{i}")(x)
            torch.testing.assert_close(found, x, atol=2e-3, rtol=1e-2)
            assert found.shape[1] == features.widths[i - 1]


def test_every_colour_gets_a_gradient_also_outside_of_srgb(imagenet_file):
    L = torch.linspace(-1, 1, 32).repeat(32, 1)[None, None]
    ab = (torch.rand(1, 2, 32, 32) * 2 - 1).requires_grad_()
    sum(x.sum() for x in Features()(L, ab)).backward()
    assert ab.grad.isfinite().all()
    assert (ab.grad.abs().sum(1) > 0).float().mean() > 0.99


def test_nothing_of_it_is_trained_or_saved(imagenet_file):
    features = Features()
    assert not list(features.parameters())
    assert not features.state_dict()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in features.modules())
    assert len(list(features.buffers())) > 30  # so it goes to the device all the same
    assert features.to(torch.float64).stem[0].weight.dtype == torch.float64


def test_frozen_weights_may_be_saved():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    names = network.state_dict().keys()
    freeze(network, saved=True)
    assert network.state_dict().keys() == names
    assert not list(network.parameters())
    assert network(torch.zeros(2, 1, 3, 3)).shape == (2, 1, 3, 3)


def test_without_weights_the_error_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ColorizeError, match="leave out --lambda-features and --disc") as error:
        Features()
    assert "\n" not in str(error.value)
    assert "resnet18-f37072fd.pth" in str(error.value)
