"""A batch that does not fit is taken in parts, with the gradients of the whole."""

import pytest
import torch
from torch import nn

from colorize.system.errors import ColorizeError
from colorize.training.memory import Accumulation, is_out_of_memory

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.fixture
def batch():
    return torch.rand(6, 1, 8, 8), torch.rand(6, 2, 8, 8)


def job(most, error=FULL):
    """A network, its optimizer, and gradients for which only `most` photos fit the memory."""
    torch.manual_seed(0)
    network = nn.Conv2d(1, 2, 3, padding=1)
    seen = []

    def gradients(L, ab, share):
        loss = (network(L) - ab).abs().mean()
        (share * loss).backward()  # what was added before the memory ran out must not stay
        seen.append(len(L))
        if len(L) > most:
            raise error
        return {"l1": loss.detach()}

    return network, torch.optim.SGD(network.parameters(), 0.1), gradients, seen


@pytest.mark.parametrize(("most", "parts"), [(6, 1), (3, 2), (2, 4), (1, 8)])
def test_parts_give_the_gradients_and_the_losses_of_the_whole(batch, most, parts, capsys):
    network, optimizer, gradients, _ = job(6)
    expected = Accumulation()(gradients, [optimizer], *batch)["l1"]
    gradient = network.weight.grad.clone()
    network, optimizer, gradients, seen = job(most)
    accumulate = Accumulation()
    assert accumulate(gradients, [optimizer], *batch)["l1"] == pytest.approx(expected.item())
    torch.testing.assert_close(network.weight.grad, gradient)
    assert accumulate.parts == parts
    tries = len(seen)
    accumulate(gradients, [optimizer], *batch)  # the next batch is not tried whole
    assert max(seen[tries:]) <= most
    said = capsys.readouterr().out.splitlines()
    assert len(said) == {1: 0, 2: 1, 4: 2, 8: 3}[parts]
    assert all("a batch of 6 photos goes in" in line for line in said)


def test_a_photo_that_does_not_fit_is_one_line(batch):
    _, optimizer, gradients, _ = job(0)
    with pytest.raises(ColorizeError, match="a single photo of 8x8; take a smaller size"):
        Accumulation()(gradients, [optimizer], *batch)


def test_one_of_several_processes_does_not_change_its_mind(batch):
    _, optimizer, gradients, _ = job(3)
    with pytest.raises(ColorizeError, match=r"6 photos of 8x8 in one of several.*--batch-size"):
        Accumulation(may_split=False)(gradients, [optimizer], *batch)


def test_other_errors_are_not_hidden(batch):
    _, optimizer, gradients, seen = job(3, RuntimeError("sizes do not match"))
    with pytest.raises(RuntimeError, match="sizes"):
        Accumulation()(gradients, [optimizer], *batch)
    assert seen == [6]


def test_memory_of_a_cpu_counts_too():
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(RuntimeError("GET was unable to find an engine to execute this"))
    assert not is_out_of_memory(RuntimeError("something else"))
