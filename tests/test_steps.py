"""Each step moves its own network and no other, towards what it should."""

import copy

import pytest
import torch
from conftest import square_scenes

from colorize.data import to_network
from colorize.discriminator import PatchGAN
from colorize.steps import discriminator_step, generator_step, pretrain_step


@pytest.fixture
def batch():
    return to_network(square_scenes(4, 32).__getitems__([0, 1, 2, 3]))


@pytest.fixture
def discriminator():
    return PatchGAN(width=8)


def snapshot(network):
    return copy.deepcopy(dict(network.named_parameters()))


def moved(network, before):
    return [name for name, p in network.named_parameters() if not torch.equal(p, before[name])]


def adam(network):
    return torch.optim.Adam(network.parameters(), 1e-3)


def test_a_discriminator_step_leaves_the_generator_untouched(small_generator, discriminator, batch):
    L, ab = batch
    generator_before, before = snapshot(small_generator), snapshot(discriminator)
    fake = small_generator(L)
    discriminator_step(discriminator, adam(discriminator), L, ab, fake, torch.Tensor.backward)
    assert moved(small_generator, generator_before) == []
    assert all(p.grad is None for p in small_generator.parameters())
    assert len(moved(discriminator, before)) == len(before)


def test_a_generator_step_leaves_the_discriminator_untouched(small_generator, discriminator, batch):
    L, ab = batch
    generator_before, before = snapshot(small_generator), snapshot(discriminator)
    generator_step(
        discriminator, adam(small_generator), L, ab, small_generator(L), torch.Tensor.backward
    )
    assert moved(discriminator, before) == []
    assert all(p.grad is None for p in discriminator.parameters())
    assert all(p.requires_grad for p in discriminator.parameters())
    assert len(moved(small_generator, generator_before)) > 0.9 * len(generator_before)


def test_discriminator_learns_to_tell_true_from_false(discriminator, batch):
    L, ab = batch
    optimizer = adam(discriminator)
    losses = [
        discriminator_step(discriminator, optimizer, L, ab, ab * 0, torch.Tensor.backward)["d"]
        for _ in range(30)
    ]
    assert losses[0] == pytest.approx(0.69, abs=0.25)  # undecided: log 2
    assert losses[-1] < 0.3
    assert discriminator(torch.cat((L, ab), 1)).mean() > 0.5
    assert discriminator(torch.cat((L, ab * 0), 1)).mean() < -0.5


def test_real_and_fake_pass_the_discriminator_separately(small_generator, discriminator, batch):
    """Joined in one batch, batch norm would give them away: see the note in the step."""
    L, ab = batch
    sizes = []
    discriminator.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    optimizer = adam(discriminator)
    discriminator_step(discriminator, optimizer, L, ab, small_generator(L), torch.Tensor.backward)
    assert sizes == [4, 4]


def test_the_generator_learns_to_fool_the_discriminator(small_generator, discriminator, batch):
    """With lambda 0 the only pull is D's: it must come to take G's colours for true."""
    L, ab = batch
    optimizer = adam(small_generator)

    def opinion():
        with torch.no_grad():
            return discriminator(torch.cat((L, small_generator(L)), 1)).mean().item()

    before = opinion()
    for _ in range(10):
        fake = small_generator(L)
        generator_step(discriminator, optimizer, L, ab, fake, torch.Tensor.backward, lambda_l1=0)
    assert opinion() > before + 0.1


def test_one_batch_can_be_learnt_by_heart(small_generator, batch):
    L, ab = batch
    optimizer = torch.optim.AdamW(small_generator.parameters(), 3e-3)
    grey = ab.abs().mean()
    for _ in range(150):
        loss = pretrain_step(small_generator, optimizer, L, ab, torch.Tensor.backward)["l1"]
    assert loss < 0.15 * grey
