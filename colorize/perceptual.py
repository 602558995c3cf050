"""FID and LPIPS, by torchmetrics; the networks they look through are downloaded on first use."""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from colorize.errors import ColorizeError, first_line

_NEEDED = {"torchmetrics": "torchmetrics", "torch_fidelity": "torch-fidelity"}
_LEAST = 2  # photos; the covariance of one is nothing


class Perceptual:
    """Collects photos for FID and gives the LPIPS of each; a `MoreMeasures` of `evaluate`.

    FID: Heusel et al. 2017, Frechet distance between the Inception features (2048, after pooling)
    of the coloured and the true photos. It falls as their number grows: compare like with like.
    LPIPS: Zhang et al. 2018, distance between AlexNet features of a photo and its truth.

    Raises:
        ColorizeError: a package is missing, or a network cannot be downloaded.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        missing = [pip for name, pip in _NEEDED.items() if importlib.util.find_spec(name) is None]
        if missing:
            raise ColorizeError(
                f"FID and LPIPS need more packages: pip install {' '.join(missing)}"
            )
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        try:
            fid = FrechetInceptionDistance()
            lpips = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
        except Exception as error:  # the network's, the disk's, or a damaged file's
            raise ColorizeError(
                f"the networks of FID and LPIPS cannot be had ({first_line(error)}); once "
                f"downloaded they are kept in {torch.hub.get_dir()}/checkpoints; or leave out "
                "--perceptual"
            ) from error
        # FID adds up in double precision, which Apple's GPUs have not.
        self._device = torch.device("cpu" if torch.device(device).type == "mps" else device)
        self._fid, self._lpips = fid.to(self._device), lpips.to(self._device)
        self._photos = 0

    def __call__(self, colored: Tensor, true: Tensor) -> dict[str, list[float]]:
        """LPIPS of each photo of a batch; both uint8 (B, 3, H, W)."""
        colored, true = colored.to(self._device), true.to(self._device)
        self._fid.update(true, real=True)
        self._fid.update(colored, real=False)
        self._photos += len(true)
        pairs = zip(colored.split(1), true.split(1), strict=True)
        return {"lpips": [self._lpips(a / 255, b / 255).item() for a, b in pairs]}

    def fid(self) -> float | None:
        """FID of all photos so far; None for fewer than two."""
        return self._fid.compute().item() if self._photos >= _LEAST else None
