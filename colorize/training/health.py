"""Numbers that go wrong in training: losses and weights that are none, a GAN that collapses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from colorize.config import TrainConfig
from colorize.system.errors import ColorizeError

# D's loss while it cannot tell true from false. That of "wgan-gp" has no end to be near to.
_AT_CHANCE = {"bce": math.log(2), "lsgan": 0.25, "hinge": 1.0}
_HOPELESS = 0.1  # share of it at which G learns nothing more
_FADED = 0.5  # share of colourfulness at which it counts as lost


class NotANumber(ColorizeError):
    """A loss became NaN or infinite."""


def not_finite(state: Any, name: str = "") -> Iterator[str]:
    """Names of the tensors with NaN or infinity in nested dicts and lists."""
    if isinstance(state, Tensor):
        if state.is_floating_point() and not state.isfinite().all():
            yield name
    elif isinstance(state, dict | list | tuple):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        for key, value in items:
            yield from not_finite(value, f"{name}.{key}" if name else str(key))


def likely_cause(
    stage: str, config: TrainConfig, networks: dict[str, nn.Module], precision: str
) -> str:
    """Why a loss may have stopped being a number, and what to do about it.

    Args:
        networks: by name.
        precision: what was computed in.
    """
    for name, network in networks.items():
        if any(not_finite(network.state_dict())):
            cause = f"a step made weights of the {name} infinite"
            break
    else:
        cause = "the weights are still numbers, but what they compute grew too large"
    if precision == "fp16":
        return f"{cause}, likely too large for fp16: try --precision fp32 or bf16 (PRECISION)"
    rate, now = ("gan", config.gan_lr) if stage == "gan" else ("pretrain", config.pretrain_lr)
    return f"{cause}, likely as the steps are too large: try a lower --{rate}-lr (now {now:g})"


def check_finite(parts: dict[str, Any], when: str) -> None:
    """Raises ColorizeError if a tensor in what a checkpoint would keep is no number."""
    if bad := next(not_finite(parts), None):
        raise ColorizeError(
            f"{when}: {bad} is not a number; checkpoints are from before; try a lower learning "
            "rate or --precision fp32"
        )


def collapse(row: dict[str, Any], history: Sequence[dict[str, Any]], objective: str) -> str:
    """A line if an epoch's row of GAN training shows that the game is lost, else nothing.

    Either D wins so clearly that nothing is to be learnt from it, or the colours of the held-out
    photos have faded to less than half of what they were, and of the truth's.

    Args:
        history: the rows before it.
    """
    lines = []
    chance = _AT_CHANCE.get(objective)
    if chance is not None and row.get("d", chance) < _HOPELESS * chance:
        lines.append(
            f"the discriminator always wins (its loss is {row['d']:.3f}, {chance:.2f} at chance), "
            "so the generator learns nothing from it"
        )
    pretrained = sum(before["stage"] == "pretrain" for before in history)
    since = history[max(0, pretrained - 1) :]  # what the GAN began with, and its epochs
    colors = [before["val_colorfulness"] for before in since if "val_colorfulness" in before]
    if row["stage"] == "gan" and colors and "val_colorfulness" in row:
        now, best = row["val_colorfulness"], max(colors)
        if now < _FADED * min(best, row["val_true_colorfulness"]):
            lines.append(f"colours fade: colourfulness {now:.1f} after {best:.1f}")
    return "; ".join(lines)


def notes(row: dict[str, Any]) -> list[str]:
    """What somebody should be told of an epoch: lines about its row in the history."""
    lines = []
    if skipped := row.get("skipped_steps"):
        lines.append(f"{skipped} steps without effect, as their gradients were too large for fp16")
    if warning := row.get("warning"):
        lines.append(f"{warning}; a lower --gan-lr or a higher --lambda-l1 may help")
    return [f"{row['stage']} epoch {row['epoch']}: {line}" for line in lines]
