"""On a GPU all is as on the CPU: numbers, steps, stops, photos; and nothing waits for it.

Skipped where there is none. DEVICE=cpu rehearses what makes sense there, so that the tests
themselves have been run before anybody rents a GPU.
"""

import copy
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SMALL_WIDTHS, ThinResNet, scene, square_scenes, write_photos
from PIL import Image
from test_processes import LAUNCH, OPTIONS, same_weights

from colorize import color
from colorize.config import OBJECTIVES, TrainConfig
from colorize.dataset import Photos, crop_flip, random_crops, to_network
from colorize.discriminator import PatchGAN
from colorize.evaluate import measure
from colorize.folders import colorize_files
from colorize.generator import Generator
from colorize.losses import gan_loss, l1_loss
from colorize.predict import Colorizer
from colorize.pretrained import export_onnx, save_weights
from colorize.steps import gan_step, pretrain_step
from colorize.trainer import Trainer
from colorize.training.checkpoint import load_checkpoint
from colorize.training.memory import Accumulation

CUDA = torch.cuda.is_available()
DEVICE = os.environ.get("DEVICE") or ("cuda" if CUDA else "")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not DEVICE, reason="no GPU; DEVICE=cpu rehearses"),
]
if DEVICE == "cpu":  # a rehearsal need not compute much
    pytestmark.append(pytest.mark.usefixtures("thin"))
needs_cuda = pytest.mark.skipif(DEVICE != "cuda", reason="cannot be rehearsed on a CPU")
PRECISIONS = ["fp32", "bf16", pytest.param("fp16", marks=needs_cuda)]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
CONFIG = TrainConfig(
    batch_size=3,
    repeats=2,
    pretrain_epochs=2,
    gan_epochs=2,
    encoder_weights="none",
    ema_decay=0.5,
    precision="fp32",
)


@pytest.fixture
def device(monkeypatch):
    """The GPU, in full float32; or the CPU for a rehearsal."""
    if DEVICE == "cpu":
        monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return torch.device(DEVICE)


def near(found, expected, share):
    """Within a share of the largest value; gives no thought to where either lies."""
    found, expected = found.detach().cpu().float(), expected.detach().cpu().float()
    torch.testing.assert_close(found, expected, rtol=0, atol=share * expected.abs().max().item())


def make_trainer(photos, config=CONFIG, out=None, **options):
    torch.manual_seed(0)
    generator = Generator(decoder_widths=SMALL_WIDTHS, working_size=photos.size, hints=config.hints)
    return Trainer(config, photos, generator, PatchGAN(width=8), out, progress=False, **options)


def lab_batch(count=4, size=64):
    """Scaled L and ab of scenes, on the CPU."""
    return to_network(square_scenes(count, size).__getitems__(range(count)))


def test_lab_is_the_same(device):
    rgb = torch.randint(0, 256, (2, 3, 40, 56), dtype=torch.uint8)
    lab = color.rgb_to_lab(rgb)
    near(color.rgb_to_lab(rgb.to(device)), lab, 1e-5)
    near(color.rgb_to_lab(rgb.to(device) / 255), lab, 1e-5)
    near(color.lightness(rgb.to(device)), color.lightness(rgb), 1e-5)
    loud = lab * torch.tensor([1.0, 2.0, 2.0]).view(3, 1, 1)
    near(color.lab_to_rgb(loud.to(device)), color.lab_to_rgb(loud), 1e-4)
    near(color.fit_to_gamut(loud.to(device)), color.fit_to_gamut(loud), 5e-3)  # halvings


@pytest.mark.parametrize("min_area", [1.0, 0.3])
def test_crops_are_the_same(device, min_area):
    rgb = square_scenes(6, 72).__getitems__(range(6))
    crops = random_crops(6, 72, 64, seed=1, min_area=min_area)
    apart = (crop_flip(rgb.to(device), 64, crops).cpu().int() - crop_flip(rgb, 64, crops)).abs()
    assert apart.max() <= (0 if min_area == 1 else 1)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_losses_are_the_same(device, objective):
    logits = torch.randn(3, 1, 6, 6) * 5
    for real in (True, False):
        for for_discriminator in (True, False):
            wish = (real, objective, for_discriminator)
            near(gan_loss(logits.to(device), *wish), gan_loss(logits, *wish), 1e-5)
    _, ab = lab_batch()
    near(l1_loss(ab.to(device), 0 * ab.to(device)), l1_loss(ab, 0 * ab), 1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_networks_and_their_gradients_are_the_same(device, small_generator, training):
    L, ab = lab_batch()
    inputs = {"generator": L, "discriminator": torch.cat((L, ab), 1)}
    torch.nn.init.normal_(small_generator.head.weight, std=0.1)
    networks = {"generator": small_generator, "discriminator": PatchGAN()}
    for name, network in networks.items():
        network.train(training)
        twin = copy.deepcopy(network).to(device, memory_format=torch.channels_last)
        outputs = network(inputs[name]), twin(inputs[name].to(device))
        near(outputs[1], outputs[0], 1e-3)
        for output in outputs:
            output.square().mean().backward()
        for ours, theirs in zip(twin.parameters(), network.parameters(), strict=True):
            apart = (ours.grad.cpu() - theirs.grad).norm()
            assert apart <= 1e-2 * theirs.grad.norm() + 1e-6


class Frozen(torch.optim.SGD):
    """Moves nothing."""

    def __init__(self, network):
        super().__init__(network.parameters(), lr=0.0)


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step_of_each_stage(device, photos, stage, precision):
    """Its losses are those of the same step on the CPU, in float32; then the weights move."""
    trainer = make_trainer(photos, replace(CONFIG, precision=precision))
    assert trainer.accelerator.device.type == device.type
    L, ab = next(trainer.batches.epoch(seed=0))
    assert L.device.type == device.type
    twins = [copy.deepcopy(n).cpu().train() for n in (trainer.generator, trainer.discriminator)]
    here = (L.cpu(), ab.cpu(), torch.Tensor.backward, Accumulation())
    if stage == "gan":
        expected = gan_step(*twins, *map(Frozen, twins), *here)
    else:
        expected = pretrain_step(twins[0], Frozen(twins[0]), *here)
    computed_in = set()
    trainer.generator.head.register_forward_hook(lambda _, __, out: computed_in.add(out.dtype))
    step = getattr(trainer, f"{stage}_stage")().step
    losses = step(L, ab)
    tolerance = 1e-3 if precision == "fp32" else 0.05
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=tolerance), name
    for _ in range(5):
        step(L, ab)
    assert computed_in == {DTYPES[precision]}
    trained = [trainer.generator] + ([trainer.discriminator] if stage == "gan" else [])
    for network, twin in zip(trained, twins, strict=False):
        pairs = list(zip(network.parameters(), twin.parameters(), strict=True))
        assert all(p.dtype == torch.float32 and p.isfinite().all() for p, _ in pairs)
        assert sum(not torch.equal(p.cpu(), q) for p, q in pairs) > 0.9 * len(pairs)


@needs_cuda
@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_the_loss_scale_falls_until_steps_count_and_rises_again(device, photos, stage, tmp_path):
    epochs = {"pretrain_epochs": 0, "gan_epochs": 0, f"{stage}_epochs": 1}
    config = replace(CONFIG, precision="fp16", repeats=30, **epochs)  # 60 steps
    for start, interval in ((2.0**40, 2000), (2.0, 2)):
        trainer = make_trainer(photos, config)
        scaler = trainer.accelerator.scaler
        scaler.load_state_dict(scaler.state_dict() | {"scale": start, "growth_interval": interval})
        trainer.pretrain()
        (row,) = trainer.train_gan()
        end, skipped = scaler.get_scale(), row.get("skipped_steps", 0)
        if start > 2:
            assert end < start
            assert 4 <= skipped < 50
        else:
            assert end > start
            assert skipped < 30
        assert all(p.isfinite().all() for p in trainer.generator.parameters())


@contextmanager
def limited_memory(most):
    """At most so many bytes of the GPU for this process."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(most / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@needs_cuda
@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_a_batch_that_does_not_fit_the_memory_is_split(device, stage, capsys):
    photos = Photos(square_scenes(16, 264), square_scenes(1, 256), 256)
    epochs = {"pretrain_epochs": 0, "gan_epochs": 0, f"{stage}_epochs": 1}
    config = replace(CONFIG, batch_size=16, precision="bf16", **epochs)

    def train():
        torch.manual_seed(0)
        trainer = Trainer(config, photos, Generator(), PatchGAN(), progress=False)
        resident = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        trainer.pretrain()
        (row,) = trainer.train_gan()
        return resident, torch.cuda.max_memory_allocated(), row

    resident, peak, whole = train()
    assert "out of memory" not in capsys.readouterr().out
    with limited_memory(resident + 0.75 * (peak - resident)):
        _, smaller, row = train()
    assert smaller < peak
    assert "a batch of 16 photos goes in" in capsys.readouterr().out
    assert row["l1"] == pytest.approx(whole["l1"], rel=0.1)


@pytest.mark.parametrize(
    "settings",
    [{}, {"old_photo": 0.5, "min_crop_area": 0.5, "lightness_jitter": 0.2, "hints": True}],
    ids=["plain", "all"],
)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_training_never_waits_for_the_gpu(device, photos, stage, precision, settings):
    """Between two looks at the losses: batches, crops, Lab, steps, averages."""
    trainer = make_trainer(photos, replace(CONFIG, precision=precision, **settings))
    stage = getattr(trainer, f"{stage}_stage")()

    def train(seed):
        for batch in trainer.batches.epoch(seed):
            stage.step(*batch)
            for schedule in stage.schedules:
                schedule.step()

    train(seed=0)  # the first steps set up what they need
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        train(seed=1)
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert trainer.averaged.n_averaged == 2 * len(trainer.batches)


class Killed(BaseException):
    """Stands in for SIGKILL in the middle of an epoch."""


@pytest.fixture
def one_order(monkeypatch):
    """A GPU adds up in an order that varies, and Adam makes much of the last digit; not in here."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:.*deterministic")  # what has no such way
@pytest.mark.usefixtures("one_order")
@pytest.mark.parametrize(  # steps: in the middle of an epoch of either stage
    ("stop", "precision"),
    [(3, "fp32"), (11, "bf16"), pytest.param(11, "fp16", marks=needs_cuda)],
)
def test_a_run_goes_on_in_the_middle_of_an_epoch(
    device, photos, tmp_path, monkeypatch, stop, precision
):
    """To nearly the same end."""
    # A checkpoint a step: of a tenth of the weights.
    monkeypatch.setattr("torchvision.models.get_model", ThinResNet)
    config = replace(CONFIG, checkpoint_minutes=0.0, precision=precision)

    def train(trainer):
        trainer.pretrain()
        return trainer.train_gan()

    unbroken = make_trainer(photos, config, tmp_path / "unbroken")
    start = copy.deepcopy(unbroken.generator).cpu()
    expected = train(unbroken)
    broken = make_trainer(photos, config, tmp_path / "broken")
    update, steps = broken.averaged.update_parameters, []

    def count(network):
        steps.append(1)
        if len(steps) == stop:
            raise Killed
        update(network)

    broken.averaged.update_parameters = count
    with pytest.raises(Killed):
        train(broken)
    kept = load_checkpoint(tmp_path / "broken" / "checkpoints" / "last.pt")
    assert kept["done"]["steps"] == (stop - 1) % 4
    assert (kept["parts"].keys() >= {"scaler"}) == (precision == "fp16")
    resumed = make_trainer(photos, config, tmp_path / "broken", resume=True)
    history = train(resumed)
    assert [row["epoch"] for row in history] == [1, 2, 1, 2]
    for ours, theirs in zip(history, expected, strict=True):
        for name in {"l1", "val_l1", "d"} & theirs.keys():
            assert ours[name] == pytest.approx(theirs[name], rel=0.05), name
    moved = apart = 0.0
    for ours, theirs, first in zip(
        resumed.generator.parameters(),
        unbroken.generator.parameters(),
        start.parameters(),
        strict=True,
    ):
        moved += (theirs.cpu() - first).square().sum().item()
        apart += (ours - theirs).square().sum().item()
    assert moved > 0
    assert apart**0.5 < 0.3 * moved**0.5


def differences(some, others):
    return max(
        np.abs(np.asarray(a).astype(int) - np.asarray(b)).max()
        for a, b in zip(some, others, strict=True)
    )


def nearly_all_the_same(some, others):
    """Not at a value that falls on the other side of a rounding, in one of a hundred."""
    pairs = zip(some, others, strict=True)
    apart = [np.abs(np.asarray(a).astype(int) - np.asarray(b)).ravel() for a, b in pairs]
    apart = np.concatenate(apart)
    return apart.max() <= 4 and (apart > 1).mean() < 0.01


@pytest.mark.parametrize("options", [{"strength": 1.5}, {"size": 64}])
def test_colorizer_gives_nearly_the_pixels_of_the_cpu(device, colorizer, options):
    """Stronger colours make more of each difference; so do larger convolutions in TF32."""
    ours, theirs, together = both(device, colorizer, options)
    assert nearly_all_the_same(ours, theirs)
    assert nearly_all_the_same(together, theirs)


@pytest.mark.parametrize("options", [{}, {"flip": True}])
def test_colorizer_gives_the_pixels_of_the_cpu(device, colorizer, options):
    ours, theirs, together = both(device, colorizer, options)
    assert [image.mode for image in ours] == ["RGB", "RGB", "RGB", "RGBA"]
    assert np.ptp(np.asarray(ours[2]).astype(int), axis=-1).mean() > 5  # in colour
    assert differences(ours, theirs) <= 1
    assert differences(together, theirs) <= 1


def both(device, colorizer, options):
    """Images coloured on the GPU, on the CPU, and on the GPU in a batch.

    With the GPU's defaults, as its users have them.
    """
    torch.backends.cudnn.allow_tf32 = True  # the fixture puts it back
    images = [Image.fromarray(scene(i, *size)) for i, size in enumerate([(80, 64), (33, 130)])]
    images += [images[0].convert("L"), images[1].convert("RGBA")]
    twins = [Colorizer(copy.deepcopy(colorizer.generator), device=d, **options)
             for d in (device, "cpu")]  # fmt: skip
    return *([twin(image) for image in images] for twin in twins), twins[0].batch(images)


def test_folders_are_coloured_in_batches_with_the_pixels_of_the_cpu(device, colorizer, tmp_path):
    write_photos(tmp_path / "photos", 7)
    Image.fromarray(scene(8, 50, 90)).save(tmp_path / "photos" / "upright.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no photo")
    results = []
    for where in (device, "cpu"):
        twin = Colorizer(copy.deepcopy(colorizer.generator), device=where)
        outcome = colorize_files(twin, [tmp_path / "photos"], out := tmp_path / str(where) / "out")
        assert len(outcome.failed) == 1
        results.append([Image.open(path) for path in sorted(out.rglob("*.png"))])
    assert [len(images) for images in results] == [8, 8]
    assert differences(*results) <= 1


def test_photos_are_measured_alike(device, photos, small_generator):
    torch.nn.init.normal_(small_generator.head.weight, std=0.1)
    small_generator.eval()
    expected = measure(small_generator, photos.val, full=True)
    found = measure(small_generator.to(device), photos.val, device=device, full=True)
    assert found == pytest.approx(expected, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_both_networks_compile(device, photos, precision, monkeypatch):
    """Steps of compiled networks have the losses of those that are not.

    A rehearsal compiles the graphs without writing code for them, which takes a CPU minutes.
    """
    import torch._functorch.config

    # D's graph is gone through twice.
    monkeypatch.setattr(torch._functorch.config, "donated_buffer", False)
    found = {}
    for compiled in (False, True):
        torch._dynamo.reset()
        trainer = make_trainer(photos, replace(CONFIG, precision=precision))
        L, ab = next(trainer.batches.epoch(seed=0))
        if compiled:
            backend = "inductor" if device.type == "cuda" else "aot_eager"
            for network in (trainer.generator, trainer.discriminator):
                network.compile(backend=backend, fullgraph=True)
        found[compiled] = [trainer.pretrain_stage().step(L, ab)]
        step = trainer.gan_stage().step
        found[compiled] += [step(L, ab) for _ in range(3)]
    tolerance = 0.01 if precision == "fp32" else 0.1
    for ours, theirs in zip(found[True], found[False], strict=True):
        for name, loss in theirs.items():
            assert ours[name].item() == pytest.approx(loss.item(), rel=tolerance), name


def test_the_exported_model_runs_on_a_gpu(device, small_generator, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    provider = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}[device.type]
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has no {provider}")
    torch.nn.init.normal_(small_generator.head.weight, std=0.05)
    save_weights(small_generator, tmp_path / "weights")
    export_onnx(tmp_path / "weights", tmp_path / "model.onnx")
    network = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=[provider])
    assert network.get_providers()[0] == provider
    L = torch.rand(2, 1, 97, 61) * 2 - 1
    (ab,) = network.run(None, {"L": L.numpy()})
    with torch.no_grad():
        wanted = small_generator.eval()(L).numpy()
    assert np.ptp(wanted) > 0.1
    np.testing.assert_allclose(ab, wanted, atol=5e-3)


@needs_cuda
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_end_with_the_weights_of_one(tmp_path):
    """See `test_processes`, which says so of processes on a CPU."""
    write_photos(tmp_path / "photos", 23)
    for launcher, out, batch_size in ((LAUNCH, "two", 2), ([sys.executable], "one", 4)):
        command = [*launcher, "-m", "colorize", "train", "--data", tmp_path / "photos"]
        command += ["--out", tmp_path / out, "--cache", tmp_path / "cache", *OPTIONS.split()]
        visible = {} if out == "two" else {"CUDA_VISIBLE_DEVICES": "0"}
        done = subprocess.run(
            [*map(str, command), "--batch-size", str(batch_size)],
            env=os.environ | {"NVIDIA_TF32_OVERRIDE": "0"} | visible,
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    same_weights(tmp_path, "one", "two", "batch")
