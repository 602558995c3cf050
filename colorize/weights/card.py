"""The model card of a weights folder: what a network learnt from, how well it does, its limits."""

from __future__ import annotations

from pathlib import Path

from colorize.config import RunConfig, TrainConfig
from colorize.system.errors import printable
from colorize.system.files import real_path

CARD_NAME = "README.md"  # beside the weights, as the hub wants it
_HEAD = """---
license: other
license_name: depends-on-the-photos
library_name: colorize
pipeline_tag: image-to-image
tags:
- image-colorization
- gan
---

# A generator that colours grey photos

A U-Net over a ResNet encoder: L of CIE Lab in, ab out. Made with
colorize; `config.json` says how it is built.

```python
from PIL import Image
from colorize import Colorizer

colorizer = Colorizer.from_pretrained("FOLDER OR HUB NAME OF THESE WEIGHTS")
colorizer(Image.open("old.jpg")).save("new.png")
```
"""
_LIMITS = """
## Limits

- The colours are guesses. They are no evidence of what a thing, a place or a person looked like.
- Photos of a kind that it was not trained on come out timid or wrong.
- Whatever is over- or underrepresented in the photos it learnt from is so in its colours.
- It looks at a photo with {size} pixels on the shorter side, and knows no smaller things than that
  shows.
"""
_LICENCES = {
    "coco": "COCO's photos are from Flickr, each under its own Creative Commons licence, some for "
    "non-commercial use only; see COCO's terms of use.",
    "builtin": "The photos come with scikit-image, matplotlib and this project, and are in the "
    "public domain, CC0 or CC BY 4.0.",
}
_OWN_LICENCE = (
    "**To be filled in by whoever publishes these weights**: where the photos are from, and what "
    "their licence allows."
)
_OTHERS_LICENCE = (
    "\nTraining began with the weights of another run; what their card says of photos and licence "
    "holds for these too.\n"
)
_ENCODER_WEIGHTS = {
    "imagenet": "with torchvision's ImageNet weights",
    "none": "with random weights",
    "auto": "with torchvision's ImageNet weights if they could be had, else random ones",
}
_MEASURES = {
    "l1": "L1 of scaled ab",
    "psnr": "PSNR, dB",
    "ssim": "SSIM",
    "ciede2000": "CIEDE2000",
    "colorfulness": "colourfulness",
    "true_colorfulness": "colourfulness of the truth",
}


def bare_card(size: int) -> str:
    """The card of a network of which no run has told anything; `size` is its working size."""
    unknown = "\nTraining had not ended when this was written, or it is not known.\n"
    return _HEAD + unknown + _LIMITS.format(size=size)


def run_card(
    config: RunConfig,
    stage: str,
    counts: tuple[int, int, int],
    measures: dict[str, float],
) -> str:
    """The card of weights that a run has made.

    Args:
        stage: "pretrained" or "generator": before or after the GAN.
        counts: photos trained on, held out, left out as grey.
        measures: means over the held-out photos; see `evaluate.measure`.
    """
    data, train = config.data, config.train
    of_gan = stage == "generator" and train.gan_epochs > 0
    # Of a folder the name alone: where it lies is nobody's business.
    source = data.source if data.source in _LICENCES else real_path(Path(data.source)).name
    trained, held_out, grey = counts
    start = _ENCODER_WEIGHTS[train.encoder_weights]
    if train.start_weights:
        start = "with the weights of another run, the decoder too"
    facts = {
        "photos": printable(source).replace("|", " ")
        + f": {trained:,} trained on, {held_out:,} held out, {grey:,} "
        "grey ones left out",
        "size": f"{data.size}x{data.size}, flips, random crops down to {train.min_crop_area:g} of "
        "the area"
        + (f", gamma of L, spread {train.lightness_jitter:g}" if train.lightness_jitter else "")
        + (f", {train.old_photo:.0%} as old prints" if train.old_photo else ""),
        "encoder": f"{config.encoder}, at the start {start}",
        "pretraining": f"L1, AdamW, one cycle up to {train.pretrain_lr:g}; epochs: "
        f"{train.pretrain_epochs}"
        if train.pretrain_epochs
        else "none",
        "GAN": _gan(train) if of_gan else "none",
        "batch": f"{train.batch_size}, "
        + (
            f"{train.epoch_photos:,} photos an epoch"
            if train.epoch_photos
            else f"each photo {train.repeats} times an epoch"
        ),
        "average of weights": f"exponential, {train.ema_decay:g} a step",
        "seed": str(train.seed),
    }
    if train.hints:
        facts["colour hints"] = (
            "known: the true colour at random places, 8 on average, of "
            f"{train.hint_share:.3g} of the photos"
        )
    text = _HEAD + "\n## Training\n\n| | |\n|---|---|\n"
    text += "".join(f"| {name} | {value} |\n" for name, value in facts.items())
    text += "\n## Measures\n\n"
    if measures:
        text += f"Means over the {held_out:,} held-out photos, at {data.size}x{data.size}:\n\n"
        text += "| measure | mean |\n|---|---|\n"
        shown = {title: measures[name] for name, title in _MEASURES.items() if name in measures}
        text += "".join(f"| {title} | {value:.4f} |\n" for title, value in shown.items())
    else:
        text += "No photo was held out.\n"
    text += "\n## Licence\n\nThe code is under the MIT licence. The weights learnt from photos. "
    text += _LICENCES.get(data.source, _OWN_LICENCE) + "\n"
    if train.start_weights:
        text += _OTHERS_LICENCE
    return text + _LIMITS.format(size=data.size)


def _gan(train: TrainConfig) -> str:
    """The GAN stage on one line."""
    kind = train.discriminator
    against = "a PatchGAN" if kind == "patch" else f"a {kind} discriminator"
    if train.discriminator_layers != 3:
        against += f" of {train.discriminator_layers} layers"
    if (side := train.discriminator_pooling) > 1:
        against += f" on means of {side}x{side} pixels"
    if kind in ("patch", "multiscale", "projected"):  # a D of one's own may not heed it
        against += f" with {train.discriminator_norm} norm"
    features = f" + {train.lambda_features:g} feature loss" if train.lambda_features else ""
    alone = f", the first {train.discriminator_first:g} of the discriminator alone"
    return (
        f"{train.objective} + {train.lambda_l1:g} L1{features} against {against}, "
        f"Adam, {train.gan_lr:g}; epochs: {train.gan_epochs}"
        + (alone if train.discriminator_first else "")
        + ("; encoder frozen" if train.freeze_encoder else "")
    )
