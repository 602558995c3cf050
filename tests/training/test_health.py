"""Losses and weights that are no numbers, and a GAN that collapses, are noticed."""

import pytest
import torch

from colorize.config import TrainConfig
from colorize.system.errors import ColorizeError
from colorize.training.health import check_finite, collapse, likely_cause, not_finite, notes


def test_the_tensor_that_is_no_number_is_named():
    parts = {
        "generator": {"a": torch.ones(3), "b": torch.tensor([1.0, float("nan")])},
        "g_optimizer": {"state": {0: {"step": torch.tensor(3), "exp": torch.tensor(float("inf"))}}},
        "schedule": {"lr": [torch.zeros(2), 0.1, None]},
    }
    assert list(not_finite(parts)) == ["generator.b", "g_optimizer.state.0.exp"]
    with pytest.raises(ColorizeError, match=r"gan, epoch 2: generator\.b is not a number"):
        check_finite(parts, "gan, epoch 2")
    check_finite({"generator": {"a": torch.ones(3)}}, "")


def test_the_likely_cause_names_the_network_and_the_knob(small_generator):
    networks = {"generator": small_generator, "discriminator": torch.nn.Linear(1, 1)}
    config = TrainConfig(gan_lr=0.5, pretrain_lr=7.0)
    assert "still numbers" in likely_cause("gan", config, networks, "fp32")
    assert "--precision fp32" in likely_cause("gan", config, networks, "fp16")
    networks["discriminator"].weight.data.fill_(float("inf"))
    cause = likely_cause("gan", config, networks, "fp32")
    assert "weights of the discriminator" in cause
    assert "--gan-lr (now 0.5)" in cause
    assert "--pretrain-lr (now 7)" in likely_cause("pretrain", config, networks, "bf16")


def rows(*colors, truth=33.0, d=0.6):
    """One epoch of pretraining, then epochs of GAN training."""
    stages = ["pretrain"] + ["gan"] * (len(colors) - 1)
    return [
        {"stage": stage, "epoch": 1, "val_colorfulness": color, "val_true_colorfulness": truth}
        | ({"d": d} if stage == "gan" else {})
        for stage, color in zip(stages, colors, strict=True)
    ]


def judge(history, objective="bce"):
    return collapse(history[-1], history[:-1], objective)


@pytest.mark.parametrize(
    ("colors", "faded"),
    [
        ((20, 25, 30), False),
        ((20, 25, 11), True),
        ((20, 9), True),  # against what pretraining gave
        ((60, 25), False),  # loud colours that calm down are no loss
        ((20, 25, 13), False),
    ],
)
def test_fading_colors_are_a_collapse(colors, faded):
    assert ("colours fade" in judge(rows(*colors))) == faded


def test_only_the_end_of_pretraining_counts():
    start, end = rows(80)[0], rows(20)[0]
    assert not judge([start, end, *rows(20, 15)[1:]])
    assert not judge([start, end])  # and in pretraining itself nothing is lost


@pytest.mark.parametrize(
    ("objective", "d", "lost"),
    [
        ("bce", 0.05, True), ("bce", 0.08, False),
        ("lsgan", 0.02, True), ("lsgan", 0.03, False),
        ("hinge", 0.05, True), ("hinge", 0.2, False),
        ("wgan-gp", -5.0, False), ("wgan-gp", 0.0, False),
    ],
)  # fmt: skip
def test_a_discriminator_that_always_wins_is_a_collapse(objective, d, lost):
    assert ("always wins" in judge(rows(20, 25, d=d), objective)) == lost


def test_without_held_out_photos_only_the_losses_speak():
    row = {"stage": "gan", "epoch": 1, "d": 0.6}
    assert not collapse(row, [], "bce")
    assert "always wins" in collapse(row | {"d": 0.0}, [row], "bce")


def test_notes_tell_what_happened():
    row = {"stage": "gan", "epoch": 3, "d": 0.0}
    assert notes(row) == []
    lines = notes(row | {"skipped_steps": 7, "warning": "colours fade"})
    assert [line.split(":")[0] for line in lines] == ["gan epoch 3"] * 2
    assert "7 steps" in lines[0]
    assert "colours fade; a lower --gan-lr" in lines[1]
