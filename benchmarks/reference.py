"""The recipe that most colourisation tutorials share, to race against.

fastai's DynamicUnet over ResNet-18 and a 70x70 PatchGAN; every photo opened, resized, mirrored and
turned into Lab by scikit-image, one by one, in worker processes; float32; plain Adam.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.color import rgb2lab
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from colorize.discriminator import PatchGAN
from colorize.imagenet import imagenet_resnet

PRETRAIN_LR = 1e-4
GAN_LR, GAN_BETAS = 2e-4, (0.5, 0.999)
LAMBDA_L1 = 100.0


class LabPhotos(Dataset):
    """Photos as scaled L (1, size, size) and ab (2, size, size), float32, made one at a time."""

    def __init__(self, paths: Sequence[Path], size: int) -> None:
        self.paths, self.size = list(paths), size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.paths[index]) as image:
            photo = image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        if torch.rand(()) < 0.5:
            photo = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        lab = torch.from_numpy(rgb2lab(np.asarray(photo)).astype(np.float32)).permute(2, 0, 1)
        return lab[:1] / 50.0 - 1.0, lab[1:] / 110.0


def loader(paths: Sequence[Path], size: int, batch_size: int, workers: int) -> DataLoader:
    """Shuffled batches; a last, smaller one is left out."""
    return DataLoader(
        LabPhotos(paths, size),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


class Reference:
    """Both networks, their optimizers, and the two kinds of step.

    Args:
        imagenet: whether the encoder starts from ImageNet's weights, as in most tutorials.

    Raises:
        ImportError: there is no fastai.
        ColorizeError: the weights are neither on disk nor within reach.
    """

    def __init__(
        self, size: int, device: torch.device | str = "cpu", imagenet: bool = False
    ) -> None:
        from fastai.vision.learner import create_body
        from fastai.vision.models.unet import DynamicUnet

        resnet = resnet18(weights=None)
        if imagenet:
            resnet = imagenet_resnet("resnet18", "leave out --imagenet")
        body = create_body(resnet, n_in=1, pretrained=imagenet, cut=-2)
        self.device = torch.device(device)
        self.generator = DynamicUnet(body, 2, (size, size)).to(self.device)
        self.generator.train()  # fastai builds it with most parts in eval mode
        self.discriminator = PatchGAN().to(self.device)
        self.bce = nn.BCEWithLogitsLoss()
        self.start_pretraining()

    def start_pretraining(self) -> None:
        """A fresh optimizer for L1."""
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), PRETRAIN_LR)

    def start_gan(self) -> None:
        """Fresh optimizers for both networks."""
        self.g_optimizer = torch.optim.Adam(self.generator.parameters(), GAN_LR, GAN_BETAS)
        self.d_optimizer = torch.optim.Adam(self.discriminator.parameters(), GAN_LR, GAN_BETAS)

    def pretrain_step(self, L: Tensor, ab: Tensor) -> float:
        """One step of L1 on scaled L (B, 1, H, W) and ab (B, 2, H, W); gives the loss."""
        L, ab = L.to(self.device), ab.to(self.device)
        loss = nn.functional.l1_loss(self.generator(L), ab)
        self.g_optimizer.zero_grad()
        loss.backward()
        self.g_optimizer.step()
        return loss.item()

    def gan_step(self, L: Tensor, ab: Tensor) -> float:
        """D step, then G step; gives G's L1."""
        L, ab = L.to(self.device), ab.to(self.device)
        fake = self.generator(L)
        self.discriminator.requires_grad_(True)
        real_loss = self._bce(torch.cat((L, ab), 1), 1.0)
        fake_loss = self._bce(torch.cat((L, fake.detach()), 1), 0.0)
        self.d_optimizer.zero_grad()
        ((real_loss + fake_loss) / 2).backward()
        self.d_optimizer.step()

        self.discriminator.requires_grad_(False)
        l1 = nn.functional.l1_loss(fake, ab)
        loss = self._bce(torch.cat((L, fake), 1), 1.0) + LAMBDA_L1 * l1
        self.g_optimizer.zero_grad()
        loss.backward()
        self.g_optimizer.step()
        return l1.item()

    def predict(self, L: Tensor) -> Tensor:
        """Scaled ab for scaled L, for measuring. Batch norm goes back to training after it."""
        self.generator.eval()
        with torch.no_grad():
            ab = self.generator(L)
        self.generator.train()
        return ab

    def _bce(self, lab: Tensor, target: float) -> Tensor:
        logits = self.discriminator(lab)
        return self.bce(logits, torch.full_like(logits, target))
