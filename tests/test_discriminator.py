"""The PatchGAN is the paper's: its size, its logits, its field of view. Others do as they say."""

import pytest
import torch
from torch import nn

from colorize.config import DISCRIMINATOR_LAYERS, DISCRIMINATORS, TrainConfig
from colorize.discriminator import MultiscaleGAN, PatchGAN, ProjectedGAN, make_discriminator
from colorize.system.errors import ColorizeError


def test_parameters_and_logits_are_those_of_the_paper():
    discriminator = PatchGAN()
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_633
    assert discriminator(torch.zeros(2, 3, 256, 256)).shape == (2, 1, 30, 30)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 64), (101, 77)])
def test_other_sizes(height, width):
    logits = PatchGAN()(torch.zeros(2, 3, height, width))
    assert logits.shape == (2, 1, height // 8 - 2, width // 8 - 2)


def seen(discriminator, side, scale=None):
    """Height and width of what the middle logit sees, of a picture of `side`."""
    lab = torch.zeros(1, 3, side, side, requires_grad=True)
    logits = discriminator.eval()(lab)
    logits = logits if scale is None else logits[scale]
    logits[0, 0, logits.shape[-2] // 2, logits.shape[-1] // 2].backward()
    reached = lab.grad.abs().sum(1)[0] > 0
    return reached.any(1).sum().item(), reached.any(0).sum().item()


def test_each_logit_sees_70_by_70_pixels():
    assert seen(PatchGAN(), 256) == (70, 70)


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_other_fields_of_view(layers, side):
    discriminator = PatchGAN(width=4, layers=layers)
    assert seen(discriminator, 384) == (side, side)
    smallest = 3 * 2**layers  # what `TrainConfig.check` asks for
    assert discriminator(torch.zeros(2, 3, smallest, smallest)).shape == (2, 1, 1, 1)
    TrainConfig(discriminator_layers=layers).check(smallest)
    with pytest.raises(ColorizeError):
        TrainConfig(discriminator_layers=layers).check(smallest - 1)


@pytest.mark.parametrize("layers", [0, 6])
def test_a_field_of_view_of_nothing_is_refused(layers):
    with pytest.raises(ColorizeError, match=f"{layers} layers"):
        PatchGAN(layers=layers)


def test_scales_see_the_picture_and_its_halves():
    discriminator = MultiscaleGAN(width=4)
    logits = discriminator(torch.zeros(2, 3, 256, 256))
    assert [scale.shape for scale in logits] == [(2, 1, 30, 30), (2, 1, 14, 14), (2, 1, 6, 6)]
    assert [seen(discriminator, 512, scale) for scale in range(3)] == [
        (70, 70),
        (140,) * 2,
        (280,) * 2,
    ]
    assert len(discriminator(torch.zeros(2, 3, 96, 96))[2].flatten()) == 2


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
    with pytest.raises(ColorizeError, match="'instance' is not one of batch, spectral, layer"):
        PatchGAN(norm="instance")


@pytest.mark.parametrize(("norm", "apart"), [("batch", False), ("spectral", True), ("layer", True)])
def test_only_batch_norm_mixes_photos(norm, apart):
    """Why WGAN-GP refuses it."""
    discriminator = PatchGAN(width=8, norm=norm)
    lab = torch.rand(2, 3, 32, 32, requires_grad=True)
    discriminator(lab)[0].sum().backward()
    assert lab.grad[0].any()
    assert (not lab.grad[1].any()) == apart


def test_projected_features_are_frozen_and_heads_learn(imagenet_file):
    discriminator = ProjectedGAN(width=8)
    names = {name.split(".")[0] for name, _ in discriminator.named_parameters()}
    assert names == {"heads"}
    fixed = {name: x.clone() for name, x in discriminator.named_buffers() if "heads" not in name}
    optimizer = torch.optim.Adam(discriminator.parameters(), 0.01)
    lab = (torch.rand(2, 3, 64, 64) * 2 - 1).requires_grad_()
    logits = discriminator(lab)
    assert [scale.shape for scale in logits] == [(2, 1, 16, 16), (2, 1, 8, 8), (2, 1, 4, 4)]
    sum(scale.mean() for scale in logits).backward()
    assert lab.grad[:, 1:].abs().sum() > 0  # G learns through it
    assert not any(buffer.requires_grad for buffer in discriminator.buffers())
    optimizer.step()
    now = dict(discriminator.named_buffers())
    assert all(torch.equal(x, now[name]) for name, x in fixed.items())


def test_a_projected_discriminator_is_saved_with_its_projections_and_without_its_resnet(
    imagenet_file,
):
    first, other = ProjectedGAN(width=8).eval(), ProjectedGAN(width=8).eval()
    lab = torch.rand(1, 3, 32, 32)
    assert not torch.equal(first(lab)[0], other(lab)[0])
    state = first.state_dict()
    assert not any(name.startswith("features") for name in state)
    other.load_state_dict(state)
    for ours, theirs in zip(first(lab), other(lab), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
@pytest.mark.parametrize("norm", ["spectral", "layer"])
def test_settings_make_each_kind(imagenet_file, kind, norm):
    layers = DISCRIMINATOR_LAYERS[1]
    config = TrainConfig(discriminator=kind, discriminator_layers=layers, discriminator_norm=norm)
    discriminator = make_discriminator(config)
    assert (
        type(discriminator)
        is dict(patch=PatchGAN, multiscale=MultiscaleGAN, projected=ProjectedGAN)[kind]
    )
    bounded = [name for name, _ in discriminator.named_parameters() if name.endswith("original")]
    assert bool(bounded) == (norm == "spectral")
    if kind == "patch" and norm == "spectral":  # layer norm shows each logit all of the picture
        assert seen(discriminator, 64) == (34, 34)


@pytest.mark.parametrize("kind", DISCRIMINATORS)
def test_behind_pooling_each_kind_sees_farther_and_no_specks(imagenet_file, kind):
    torch.manual_seed(0)
    pooled = make_discriminator(
        TrainConfig(discriminator=kind, discriminator_layers=1, discriminator_pooling=4)
    ).eval()
    if kind == "patch":
        assert seen(pooled, 128) == (64, 64)  # 16 pixels of 4
    lab = torch.rand(1, 3, 96, 96) / 2
    specks = torch.zeros(1, 3, 96, 96)
    specks[:, :, ::4, ::4], specks[:, :, 2::4, 2::4] = 0.5, -0.5  # a mean of nothing
    plain, specked, tinged = (pooled(x) for x in (lab, lab + specks, lab + 0.1))
    if kind == "patch":
        plain, specked, tinged = [plain], [specked], [tinged]
    for a, b, c in zip(plain, specked, tinged, strict=True):
        assert (a - c).abs().max() > 100 * (a - b).abs().max()


def test_a_pooling_of_nothing_is_refused():
    with pytest.raises(ColorizeError, match="pooling 0 is not one of 1, 2, 4, 8"):
        make_discriminator(TrainConfig(discriminator_pooling=0))


def test_a_projected_one_has_enough_to_see_at_its_smallest(imagenet_file):
    """A single photo in training, which is the least that its batch norm has to do with."""
    pooled = make_discriminator(TrainConfig(discriminator="projected", discriminator_pooling=2))
    TrainConfig(discriminator="projected", discriminator_pooling=2).check(34)
    assert [logits.shape[-1] for logits in pooled(torch.rand(1, 3, 34, 34))] == [5, 3, 2]


def test_an_unknown_kind_is_refused():
    with pytest.raises(ColorizeError, match="'style' is not one of patch, multiscale, projected"):
        make_discriminator(TrainConfig(discriminator="style"))
