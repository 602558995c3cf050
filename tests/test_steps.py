"""Each step moves its own network and no other, towards what it should."""

import copy
import inspect

import pytest
import torch
from conftest import square_scenes
from torch import nn

from colorize.config import TrainConfig
from colorize.dataset import to_network
from colorize.discriminator import PatchGAN
from colorize.losses import gan_loss, gradient_penalty, l1_loss
from colorize.steps import gan_step, pretrain_step
from colorize.training.memory import Accumulation

pytestmark = pytest.mark.usefixtures("thin")

BACKWARD = torch.Tensor.backward


@pytest.fixture
def batch():
    return to_network(square_scenes(4, 32).__getitems__([0, 1, 2, 3]))


@pytest.fixture
def discriminator():
    return PatchGAN(width=8)


class Frozen(torch.optim.SGD):
    """Keeps the gradients of a step to look at, and moves nothing."""

    def __init__(self, network):
        super().__init__(network.parameters(), lr=0.0)


def adam(network):
    return torch.optim.Adam(network.parameters(), 1e-3)


def gradients(network):
    return {name: p.grad.clone() for name, p in network.named_parameters()}


def expected_gradients(network, loss):
    """What a loss does to one network alone."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    grads = torch.autograd.grad(loss, parameters, retain_graph=True)
    return dict(zip(names, grads, strict=True))


@pytest.mark.parametrize("objective", ["bce", "lsgan", "hinge"])
def test_each_network_gets_the_gradients_of_its_own_loss(
    small_generator, discriminator, batch, objective
):
    L, ab = batch
    step = (small_generator, discriminator, Frozen(small_generator), Frozen(discriminator))
    losses = gan_step(*step, L, ab, BACKWARD, Accumulation(), objective, lambda_l1=7.0)

    fake = small_generator(L)
    real_logits = discriminator(torch.cat((L, ab), 1))
    fake_logits = discriminator(torch.cat((L, fake), 1))
    d_loss = gan_loss(real_logits, True, objective) + gan_loss(fake_logits, False, objective)
    fooling = gan_loss(fake_logits, True, objective, for_discriminator=False)
    l1 = l1_loss(fake, ab)
    assert losses["d"] == pytest.approx(d_loss.item() / 2, rel=1e-5)
    assert losses["gan"] == pytest.approx(fooling.item(), rel=1e-5)
    assert losses["l1"] == pytest.approx(l1.item(), rel=1e-5)
    for network, loss in ((discriminator, d_loss / 2), (small_generator, fooling + 7.0 * l1)):
        torch.testing.assert_close(gradients(network), expected_gradients(network, loss))


def test_what_is_added_to_a_loss_moves_its_own_network(small_generator, batch):
    """A gradient penalty in D's, as half of its weight, and a feature loss in G's."""
    L, ab = batch
    discriminator = PatchGAN(width=8, norm="layer")
    networks = (small_generator, discriminator)

    def features(L, fake_ab, ab):
        return (fake_ab - ab).square().mean()

    def penalty(L, ab, fake_ab):
        torch.manual_seed(5)
        return gradient_penalty(discriminator, L, ab, fake_ab)

    terms = {"penalty": penalty, "lambda_penalty": 8.0, "features": features}
    step = (*networks, *map(Frozen, networks), L, ab, BACKWARD, Accumulation(), "wgan-gp", 7.0)
    losses = gan_step(*step, **terms, lambda_features=3.0)

    fake = small_generator(L)
    real_logits, fake_logits = (discriminator(torch.cat((L, x), 1)) for x in (ab, fake))
    slope = penalty(L, ab, fake)
    d_loss = (fake_logits.mean() - real_logits.mean() + 8.0 * slope) / 2
    g_loss = 7.0 * l1_loss(fake, ab) + 3.0 * features(L, fake, ab) - fake_logits.mean()
    assert losses["penalty"] == pytest.approx(slope.item(), rel=1e-4)
    assert losses["features"] == pytest.approx(features(L, fake, ab).item(), rel=1e-5)
    assert losses["d"] == pytest.approx((d_loss - 4.0 * slope).item(), rel=1e-4)
    for network, loss in ((discriminator, d_loss), (small_generator, g_loss)):
        torch.testing.assert_close(gradients(network), expected_gradients(network, loss))


def test_a_discriminator_that_learns_alone_learns_the_same(small_generator, discriminator, batch):
    twins = [copy.deepcopy(n) for n in (small_generator, discriminator)]
    both = gan_step(*twins, *map(Frozen, twins), *batch, BACKWARD, Accumulation())
    optimizers = (adam(small_generator), Frozen(discriminator))
    before = copy.deepcopy(dict(small_generator.named_parameters()))
    step = (small_generator, discriminator, *optimizers, *batch, BACKWARD, Accumulation())
    assert gan_step(*step, d_alone=True) == both
    torch.testing.assert_close(gradients(discriminator), gradients(twins[1]))
    for name, parameter in small_generator.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_both_networks_move_and_no_gradient_is_left_over(small_generator, discriminator, batch):
    before = [copy.deepcopy(dict(n.named_parameters())) for n in (small_generator, discriminator)]
    optimizers = (Frozen(small_generator), Frozen(discriminator))
    gan_step(small_generator, discriminator, *optimizers, *batch, BACKWARD, Accumulation())
    first = [gradients(network) for network in (small_generator, discriminator)]
    gan_step(small_generator, discriminator, *optimizers, *batch, BACKWARD, Accumulation())
    again = [gradients(network) for network in (small_generator, discriminator)]
    torch.testing.assert_close(again, first)  # the same again, not twice it
    optimizers = (adam(small_generator), adam(discriminator))
    for _ in range(2):  # the first moves of a residual branch only the scale that makes it zero
        gan_step(small_generator, discriminator, *optimizers, *batch, BACKWARD, Accumulation())
    for network, old in zip((small_generator, discriminator), before, strict=True):
        moved = [not torch.equal(p, old[name]) for name, p in network.named_parameters()]
        assert sum(moved) > 0.9 * len(moved)


def test_each_backward_pass_touches_one_network(small_generator, discriminator, batch):
    """No gradient is worked out to be thrown away: D's would cost another pass through G."""
    optimizers = (Frozen(small_generator), Frozen(discriminator))
    touched = []

    def backward(loss, **options):
        loss.backward(**options)
        networks = (discriminator, small_generator)
        touched.append([any(p.grad is not None for p in n.parameters()) for n in networks])
        discriminator.zero_grad()

    gan_step(small_generator, discriminator, *optimizers, *batch, backward, Accumulation())
    assert touched == [[True, False], [False, True]]


def test_pretraining_takes_the_gradients_of_its_own_step(small_generator, batch):
    L, ab = batch
    for _ in range(2):  # the second time the same again, not twice it
        pretrain_step(small_generator, Frozen(small_generator), L, ab, BACKWARD, Accumulation())
        expected = expected_gradients(small_generator, l1_loss(small_generator(L), ab))
        torch.testing.assert_close(gradients(small_generator), expected)


def test_defaults_are_those_of_a_run():
    defaults = {k: v.default for k, v in inspect.signature(gan_step).parameters.items()}
    assert defaults["objective"] == TrainConfig().objective
    for name in ("lambda_l1", "lambda_penalty", "lambda_features"):
        assert defaults[name] == getattr(TrainConfig(), name)


class Constant(nn.Module):
    """A generator of one colour, which it can learn."""

    def __init__(self):
        super().__init__()
        self.ab = nn.Parameter(torch.zeros(1, 2, 1, 1))

    def forward(self, L, hints=None):
        return self.ab.expand(len(L), 2, *L.shape[-2:])


def test_discriminator_learns_to_tell_true_from_false(discriminator, batch):
    L, ab = batch
    grey = Constant()
    step = (grey, discriminator, Frozen(grey), adam(discriminator))
    losses = [gan_step(*step, L, ab, BACKWARD, Accumulation())["d"] for _ in range(30)]
    assert losses[0] == pytest.approx(0.69, abs=0.25)  # undecided: log 2
    assert losses[-1] < 0.3
    assert discriminator(torch.cat((L, ab), 1)).mean() > 0.5
    assert discriminator(torch.cat((L, ab * 0), 1)).mean() < -0.5


def test_real_and_fake_pass_the_discriminator_separately_and_once(
    small_generator, discriminator, batch
):
    """Joined in one batch, batch norm would give them away: see the note in the step."""
    sizes = []
    discriminator.register_forward_hook(lambda module, args, out: sizes.append(len(out)))
    optimizers = (adam(small_generator), adam(discriminator))
    gan_step(small_generator, discriminator, *optimizers, *batch, BACKWARD, Accumulation())
    assert sizes == [4, 4]


def test_the_generator_learns_to_fool_the_discriminator(small_generator, discriminator, batch):
    """With lambda 0 the only pull is D's: it must come to take G's colours for true."""
    L, ab = batch
    optimizers = (adam(small_generator), Frozen(discriminator))

    def opinion():
        with torch.no_grad():
            return discriminator(torch.cat((L, small_generator(L)), 1)).mean().item()

    before = opinion()
    for _ in range(10):
        step = (small_generator, discriminator, *optimizers, L, ab, BACKWARD, Accumulation())
        gan_step(*step, lambda_l1=0)
    assert opinion() > before + 0.1


def test_one_batch_can_be_learnt_by_heart(small_generator, batch):
    L, ab = batch
    optimizer = torch.optim.AdamW(small_generator.parameters(), 3e-3)
    grey = ab.abs().mean()
    for _ in range(150):
        loss = pretrain_step(small_generator, optimizer, L, ab, BACKWARD, Accumulation())["l1"]
    assert loss < 0.15 * grey


class Listener(nn.Module):
    """A generator that colours by its hints, and keeps them."""

    def __init__(self):
        super().__init__()
        self.weight, self.heard = nn.Parameter(torch.ones(())), []

    def forward(self, L, hints=None):
        self.heard.append(hints)
        return self.weight * hints[:, :2]


def test_hints_reach_the_generator_and_not_the_discriminator(discriminator, batch):
    L, ab = batch
    hints, listener = torch.rand(4, 3, 32, 32), Listener()
    seen = []
    discriminator.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    step = (listener, discriminator, Frozen(listener), Frozen(discriminator))
    losses = gan_step(*step, L, ab, BACKWARD, Accumulation(), hints=hints)
    assert losses["l1"] == pytest.approx(l1_loss(hints[:, :2], ab).item())
    assert torch.equal(seen[0], torch.cat((L, ab), 1))
    assert torch.equal(seen[1], torch.cat((L, hints[:, :2]), 1))
    losses = pretrain_step(listener, step[2], L, ab, BACKWARD, Accumulation(), hints)
    assert losses["l1"] == pytest.approx(l1_loss(hints[:, :2], ab).item())
    assert all(heard is hints or torch.equal(heard, hints) for heard in listener.heard)


def test_each_part_of_a_batch_keeps_its_hints(batch):
    L, ab = batch
    hints, listener, accumulate = torch.rand(4, 3, 32, 32), Listener(), Accumulation()
    accumulate.parts = 2
    pretrain_step(listener, Frozen(listener), L, ab, BACKWARD, accumulate, hints)
    assert [len(heard) for heard in listener.heard] == [2, 2]
    assert torch.equal(torch.cat(listener.heard), hints)
