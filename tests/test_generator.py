"""The generator: sizes, the folded ImageNet stem, and where the weights come from."""

import json

import pytest
import torch
from conftest import SMALL_WIDTHS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from colorize.color import lightness
from colorize.config import ENCODERS
from colorize.generator import DecoderStage, Generator
from colorize.system.errors import ColorizeError

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


@settings(max_examples=25)
@given(st.integers(1, 2), st.integers(32, 130), st.integers(32, 130))
@example(2, 32, 32)
@example(1, 33, 129)
def test_any_size_from_32_up(small_generator, count, height, width):
    ab = small_generator.eval()(torch.rand(count, 1, height, width) * 2 - 1)
    assert ab.shape == (count, 2, height, width)
    assert ab.abs().max() < 1


def test_colours_level_off_towards_one(small_generator):
    with torch.no_grad():
        small_generator.head.weight.zero_()
        small_generator.head.bias.copy_(torch.tensor([0.5, -2.0]))
        ab = small_generator.eval()(torch.zeros(1, 1, 32, 32))
    expected = torch.tensor([0.4621, -0.9640]).view(1, 2, 1, 1).expand_as(ab)
    torch.testing.assert_close(ab, expected, atol=1e-4, rtol=0)


def test_a_split_convolution_is_that_of_both_inputs_joined():
    stage = DecoderStage(3, 2, 4)
    stage.merge = torch.nn.Identity()
    x, skip = torch.randn(1, 3, 6, 5), torch.randn(1, 2, 6, 5)
    weight = torch.cat((stage.from_below.weight, stage.from_skip.weight), 1)
    joined = torch.nn.functional.conv2d(torch.cat((x, skip), 1), weight, padding=1)
    torch.testing.assert_close(stage(x, skip), joined, atol=1e-5, rtol=1e-4)


def test_features_are_upsampled_smoothly_to_the_size_of_the_skip():
    """A slope stays a slope; with steps in it, every doubling would leave blocks."""
    stage = DecoderStage(1, 1, 1)
    stage.from_below = stage.merge = torch.nn.Identity()
    slope = torch.arange(8.0).expand(1, 1, 8, 8)
    with torch.no_grad():
        found = stage(slope, torch.zeros(1, 1, 15, 16))
    assert found.shape == (1, 1, 15, 16)
    torch.testing.assert_close(found[0, 0, 7, 1:-1].diff(), torch.full((13,), 0.5))


def test_default_generator_is_a_resnet18_unet_for_256():
    generator = Generator()
    assert generator.working_size == 256
    assert generator.encoder.name == "resnet18"
    assert generator.eval()(torch.zeros(1, 1, 256, 256)).shape == (1, 2, 256, 256)


def test_too_small_is_an_error_with_the_size(small_generator):
    with pytest.raises(ColorizeError, match=r"32x32.*got 31x40"):
        small_generator(torch.zeros(1, 1, 31, 40))


def test_a_fresh_generator_predicts_next_to_grey():
    ab = Generator()(torch.rand(2, 1, 64, 64) * 2 - 1)
    assert ab.abs().mean() < 0.05


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_gives_five_scales(name):
    encoder = Generator(encoder=name, decoder_widths=SMALL_WIDTHS).encoder.eval()
    features = encoder(torch.zeros(1, 1, 64, 64))
    assert [f.shape[-1] for f in features] == [32, 16, 8, 4, 2]
    assert [f.shape[1] for f in features] == encoder.widths


def test_unknown_encoder_is_named():
    with pytest.raises(ColorizeError, match=r"'vgg16'.*resnet18"):
        Generator(encoder="vgg16")


@pytest.mark.parametrize(
    "widths",
    [None, 5, "54321", {}, [], [8] * 4, [8] * 6, [8.0] * 5, [8, 8, 8, 8, True], [8, 8, 8, 8, "8"]]
    + [[8, 8, 8, 8, bad] for bad in (0, -8, 2049, 10**12, None, [8])],
)
def test_widths_that_are_no_network_are_refused(widths):
    with pytest.raises(ColorizeError, match=r"decoder_widths .* not 5 whole numbers") as error:
        Generator(decoder_widths=widths)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [None, True, "64", 64.0, [64], -64, 31, 2049, 10**12])
def test_working_sizes_that_are_none_are_refused(size):
    with pytest.raises(ColorizeError, match=r"working_size .* no whole number, 32 to 2048"):
        Generator(decoder_widths=SMALL_WIDTHS, working_size=size)


def test_unknown_fields_of_a_config_are_named(small_generator, tmp_path):
    small_generator.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"depth\n": 7, "revision": "x"}))
    with pytest.raises(ColorizeError, match=r"unknown fields: 'depth\\n', 'revision'"):
        Generator.from_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ColorizeError, match=r"no config\.json"):
        Generator.from_pretrained(tmp_path)


def test_folded_stem_gives_the_features_of_the_three_channel_network(imagenet_file):
    generator = Generator().eval()
    generator.encoder.load_imagenet()
    grey = torch.rand(2, 1, 65, 80).expand(-1, 3, -1, -1)
    x = imagenet_file.relu(imagenet_file.bn1(imagenet_file.conv1((grey - MEAN) / STD)))
    expected = [x]
    x = imagenet_file.maxpool(x)
    for i in range(1, 5):
        x = getattr(imagenet_file, f"layer{i}")(x)
        expected.append(x)
    L = lightness(grey) / 50 - 1
    # The borders too: the padding means the same in both.
    for ours, theirs in zip(generator.encoder(L), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-3)


def test_without_network_the_error_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ColorizeError, match="--encoder-weights none") as error:
        Generator().encoder.load_imagenet()
    assert "resnet18" in str(error.value)
    assert "\n" not in str(error.value)


def test_skips_carry_detail_to_the_output(small_generator):
    """A change of a single pixel of L reaches ab at full resolution, around that pixel."""
    L = torch.zeros(1, 1, 64, 64, requires_grad=True)
    small_generator.eval()(L)[0, :, 32, 32].sum().backward()
    gradient = L.grad[0, 0].abs()
    assert gradient[30:35, 30:35].max() == gradient.max()


@pytest.fixture
def with_hints():
    return Generator(decoder_widths=SMALL_WIDTHS, working_size=32, hints=True)


def louden(generator):
    """Random weights in place of the zeros through which hints enter."""
    entries = [p for name, p in generator.named_parameters() if "from_hints" in name]
    for weight in entries:
        torch.nn.init.normal_(weight)
    torch.nn.init.normal_(generator.head.weight)
    return entries


def test_a_generator_starts_the_same_with_hints_and_without(with_hints):
    torch.manual_seed(3)
    plain = Generator(decoder_widths=SMALL_WIDTHS).eval()
    torch.manual_seed(3)
    hinted = Generator(decoder_widths=SMALL_WIDTHS, hints=True).eval()
    L, hints = torch.rand(2, 1, 40, 50), torch.rand(2, 3, 40, 50)
    assert torch.equal(plain(L), hinted(L))
    assert torch.equal(plain(L), hinted(L, hints))
    assert "hints" not in "".join(plain.state_dict())


def test_hints_enter_in_two_places_and_none_is_the_same_as_zeros(with_hints):
    entries = louden(with_hints.eval())
    assert [tuple(weight.shape) for weight in entries] == [(64, 3, 7, 7), (8, 3, 3, 3)]
    L, hints = torch.rand(1, 1, 40, 51), torch.zeros(1, 3, 40, 51)
    assert torch.equal(with_hints(L), with_hints(L, hints))
    hints[..., 7, 9] = 1.0
    assert with_hints(L, hints).sub(with_hints(L)).abs().max() > 0.1


def test_weights_say_whether_they_know_hints(with_hints, small_generator, tmp_path):
    louden(with_hints)
    L, hints = torch.rand(1, 1, 40, 51), torch.rand(1, 3, 40, 51)
    for name, generator in (("with", with_hints), ("without", small_generator)):
        generator.save_pretrained(tmp_path / name)
        loaded = Generator.from_pretrained(tmp_path / name)
        assert loaded.hints == (name == "with")
        assert torch.equal(loaded(L), generator.eval()(L))
    loaded = Generator.from_pretrained(tmp_path / "with")
    assert torch.equal(loaded(L, hints), with_hints(L, hints))


def test_weights_from_before_hints_compute_what_they_did(small_generator, tmp_path):
    small_generator.save_pretrained(tmp_path)
    assert "hints" not in (tmp_path / "config.json").read_text()
    loaded = Generator.from_pretrained(tmp_path)
    L = torch.rand(1, 1, 40, 51)
    assert not loaded.hints
    assert torch.equal(loaded(L), small_generator.eval()(L))


def test_hints_for_a_generator_that_knows_none_are_refused(small_generator):
    with pytest.raises(ColorizeError, match="know no colour hints; train them with --hints"):
        small_generator(torch.zeros(1, 1, 32, 32), torch.zeros(1, 3, 32, 32))


@pytest.mark.parametrize("hints", [None, 1, "yes"])
def test_a_config_must_say_yes_or_no_to_hints(hints):
    with pytest.raises(ColorizeError, match=r"hints .* is neither true nor false"):
        Generator(decoder_widths=SMALL_WIDTHS, hints=hints)
