"""Batch norm over several processes equals batch norm over all their photos in one."""

import pytest
import torch
import torch.distributed as dist
from torch import multiprocessing, nn

from colorize.training.batchnorm import synchronize


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    nn.init.normal_(net[1].weight)
    nn.init.normal_(net[1].bias)
    return net


def photos():
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1)) * 5 + 2


def step(net, x):
    """Output, gradients and statistics after a step of a loss that looks at every value."""
    y = net(x)
    y.square().mean().backward()
    gradients = {name: p.grad for name, p in net.named_parameters()}
    return {"y": y.detach(), **gradients, **dict(net.named_buffers())}


def work(process, processes, folder):
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=process, world_size=processes
    )
    net = network()
    synchronize(net)
    result = step(net, photos().chunk(processes)[process])
    net.eval()
    result["evaluated"] = net(photos()).detach()
    torch.save(result, f"{folder}/{process}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_processes_together_do_what_one_does(tmp_path, processes):
    multiprocessing.spawn(work, (processes, str(tmp_path)), nprocs=processes)
    parts = [torch.load(tmp_path / f"{i}.pt", weights_only=True) for i in range(processes)]
    net = network()
    whole = step(net, photos())
    net.eval()
    whole["evaluated"] = net(photos()).detach()
    together = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
    for name, value in together.items():
        if name == "y":
            merged = value.flatten(0, 1)
        elif "running" in name or name in ("evaluated", "1.num_batches_tracked"):
            merged = value[0]
        else:
            merged = value.mean(0)  # as DDP averages gradients
        torch.testing.assert_close(
            merged, whole[name], msg=lambda text, name=name: f"{name}: {text}"
        )


def test_names_and_weights_stay():
    net = network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    synchronize(net)
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
