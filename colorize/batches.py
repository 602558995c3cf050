"""The batches of an epoch: which photos, cut where, in which order, for which process."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler
from torchvision.transforms.v2.functional import InterpolationMode, resized_crop

from colorize.config import TrainConfig
from colorize.data import Photos, PhotoSet, to_network
from colorize.device import process_state
from colorize.errors import ColorizeError


def agree(value: str, what: str) -> None:
    """Raises ColorizeError if the processes that train together differ in something."""
    if process_state().num_processes > 1 and len(set(gather_object([value]))) > 1:
        raise ColorizeError(f"the processes that train together do not all have the same {what}")


class Batches:
    """Training batches on the device; each process of several has its share of them.

    What a batch holds depends on the seed of its epoch and on its number, on nothing that ran
    before. Two processes of B photos together see what one process of 2 B would.
    """

    def __init__(self, accelerator: Accelerator, photos: Photos, config: TrainConfig) -> None:
        self.accelerator, self.photos, self.config = accelerator, photos, config
        agree(photos.fingerprint()["names"], "photos, or not all can read them")
        if min(config.batch_size, len(photos.train) * config.repeats) == 1 and photos.size == 32:
            raise ColorizeError("batch norm needs a batch of 2 or more, or photos larger than 32")

    def __len__(self) -> int:
        """Steps of an epoch."""
        if not (steps := len(self._loader(seed=0))):
            raise ColorizeError(
                f"{len(self.photos.train)} photos are too few for "
                f"{self.accelerator.num_processes} processes; lower --batch-size"
            )
        return steps

    def epoch(self, seed: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """L (B, 1, H, W) and ab (B, 2, H, W), both scaled, from the step `start` on."""
        shown, size = len(self.photos.train) * self.config.repeats, self.photos.size
        whole = self.photos.train.array.shape[1]
        crops = random_crops(shown, whole, size, seed, self.config.min_crop_area)
        gammas = random_gammas(shown, seed, self.config.lightness_jitter)
        processes, process = self.accelerator.num_processes, self.accelerator.process_index
        for step, rgb in enumerate(self._loader(seed, start * processes), start):
            first = (step * processes + process) * self.config.batch_size
            torch.manual_seed(seed + 1_000_003 * first)  # for networks that draw, as dropout does
            places = torch.arange(first, first + len(rgb)) % shown
            L, ab = to_network(crop_flip(rgb, size, crops[places]))
            if self.config.lightness_jitter:
                L = apply_gamma(L, gammas[places])
            yield L, ab

    def _loader(self, seed: int, start: int = 0) -> DataLoader:
        config = self.config
        loader = train_loader(self.photos.train, config.batch_size, seed, config.repeats, start)
        return self.accelerator.prepare(loader)


def random_crops(count: int, whole: int, size: int, seed: int, min_area: float = 1.0) -> Tensor:
    """Where to cut an epoch's photos, in the order in which they are shown.

    Args:
        whole: side of a photo.
        size: side of the largest crop.
        min_area: of the smallest crop, as a share of the largest one's.

    Returns:
        (count, 4) on the CPU: top, left, side, and whether to mirror.
    """
    random = torch.Generator().manual_seed(seed)
    areas = min_area + (1 - min_area) * torch.rand(count, 1, generator=random)
    sides = (size * areas.sqrt()).round().long()
    corners = torch.rand(count, 2, generator=random, dtype=torch.float64)
    corners = (corners * (whole - sides + 1)).long()
    flips = torch.randint(2, (count, 1), generator=random)
    return torch.cat((corners, sides, flips), dim=1)


def random_gammas(count: int, seed: int, spread: float) -> Tensor:
    """How an epoch's photos change in lightness, in the order in which they are shown.

    Args:
        seed: the epoch's.
        spread: standard deviation of the logarithms.

    Returns:
        (count,) float32 above 0 on the CPU; 1 changes nothing.
    """
    random = torch.Generator().manual_seed(seed + 500_000)  # not what decides the crops
    return torch.exp(spread * torch.randn(count, generator=random))


def apply_gamma(L: Tensor, gammas: Tensor) -> Tensor:
    """Make photos darker (gamma above 1) or lighter; black and white stay.

    Args:
        L: scaled, (B, 1, H, W) in [-1, 1]; so is what comes out.
        gammas: (B,), see `random_gammas`.
    """
    share = ((L + 1) / 2).clamp(0, 1)  # of white; rounding may leave it a little
    return 2 * share ** gammas.to(L).view(-1, 1, 1, 1) - 1


def crop_flip(rgb: Tensor, size: int, crops: Tensor) -> Tensor:
    """Cut a square out of each photo of a batch, bring it to `size` if it is smaller, mirror some.

    Args:
        rgb: (B, 3, S, S), any device; uint8 if a crop is smaller than `size`.
        crops: (B, 4), see `random_crops`.
    """
    cut = []
    for photo, (top, left, side, flip) in zip(rgb, crops.tolist(), strict=True):
        crop = resized_crop(photo, top, left, side, side, [size, size], InterpolationMode.BICUBIC)
        cut.append(crop.flip(-1) if flip else crop)
    return torch.stack(cut)


class Shuffle(Sampler):
    """A random order that depends on the seed alone; the trainer gives a new seed each epoch.

    Args:
        repeats: how often each photo is shown; more than once pays for tiny sets, where each
            look is another crop.
        start: how many to leave out at the beginning, as they were shown before a stop.
    """

    def __init__(self, count: int, seed: int, repeats: int = 1, start: int = 0) -> None:
        self.count, self.seed, self.repeats, self.start = count, seed, repeats, start

    def __len__(self) -> int:
        return max(self.count * self.repeats - self.start, 0)

    def __iter__(self) -> Iterator[int]:
        random = torch.Generator().manual_seed(self.seed)
        orders = [torch.randperm(self.count, generator=random) for _ in range(self.repeats)]
        yield from torch.cat(orders)[self.start :].tolist()


def train_loader(
    photos: PhotoSet, batch_size: int, seed: int, repeats: int = 1, start: int = 0
) -> DataLoader:
    """Shuffled uint8 batches (B, 3, S, S) from batch `start` on.

    A last, smaller batch is left out, as batch norm would read too much into it, unless it is the
    only one.
    """
    sampler = Shuffle(len(photos), seed, repeats, start * batch_size)
    batches = BatchSampler(sampler, batch_size, drop_last=len(photos) * repeats >= batch_size)
    # A batch is one fancy index into the memory map: no worker processes, nothing to collate.
    return DataLoader(photos, batch_sampler=batches, collate_fn=_as_it_is)


def _as_it_is(batch: Tensor) -> Tensor:
    return batch
