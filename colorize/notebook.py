"""What notebooks need beside the package: training that goes on, live views, short errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from IPython import get_ipython
from IPython.display import Image, display
from torch import Tensor, nn

from colorize.checkpoint import load_checkpoint, load_generator, write_json
from colorize.config import DataConfig, RunConfig, TrainConfig
from colorize.data import Photos, PhotoSet, load_photos, to_network
from colorize.device import suit_batch_size
from colorize.discriminator import PatchGAN
from colorize.errors import ColorizeError
from colorize.estimate import STAGES
from colorize.explain import ambiguous
from colorize.generator import Generator
from colorize.predict import Colorizer
from colorize.run import DEMO, changed_settings, load_config, load_encoder_weights, run_training
from colorize.train import Trainer
from colorize.viz import Figure, grid, jpeg, sample_saver


def one_line_errors() -> None:
    """Let cells show what went wrong for their user in one line, without a traceback."""

    def show(shell: Any, kind: type, error: ColorizeError, *_: Any, **__: Any) -> None:
        # Not printed: what runs notebooks, papermill for one, looks for an error output.
        shell._showtraceback(kind, error, [str(error)])

    if shell := get_ipython():
        shell.set_custom_exc((ColorizeError,), show)


def make_config(data: DataConfig, train: TrainConfig) -> RunConfig:
    """Settings of a run, with a batch size that suits the machine if `train` has 0.

    A run on the few built-in photos is as in `colorize demo`: it shows many crops of each, and
    starts from scratch, which needs no network.
    """
    few = data.source == "builtin"
    if not train.batch_size:
        suited = DEMO.train.batch_size if few else suit_batch_size(data.size)
        train = replace(train, batch_size=suited)
    if few:
        demo = DEMO.data
        data = replace(data, val_fraction=demo.val_fraction, crop_margin=demo.crop_margin)
        names = ("repeats", "ema_decay", "encoder_weights")
        train = replace(train, **{name: getattr(DEMO.train, name) for name in names})
    return RunConfig(data, train)


def open_run(config: RunConfig, out: Path) -> str:
    """Start a run folder, or go on with the one that is there.

    Returns:
        A line that says which.

    Raises:
        ColorizeError: the folder holds a run with other settings.
    """
    if not (out / "checkpoints" / "last.pt").exists():
        write_json(out / "config.json", config.to_dict())
        return f"a new run in {out}"
    changed = changed_settings(load_config(out), config)
    if changed:
        raise ColorizeError(
            f"{out}: holds a run with another {', '.join(changed)}; give RUN a new name, or set it "
            "back to go on with that run"
        )
    return f"going on with the run in {out}"


def ambiguous_run(out: Path, gan_epochs: int) -> tuple[RunConfig, Photos]:
    """Train on the built-in photos in their own and in opposite colours, shown as it goes.

    Minutes on a CPU; goes on where it was stopped. A small weight of L1 leaves the choice between
    the two to the GAN.

    Returns:
        The settings, and the photos; see `explain.ambiguous`.
    """
    train = TrainConfig(batch_size=8, pretrain_epochs=2, gan_epochs=gan_epochs, lambda_l1=20.0)
    config = make_config(DataConfig("builtin", size=96), train)
    config = replace(config, train=replace(config.train, repeats=config.train.repeats // 2))
    photos = ambiguous(load_photos(config.data, config.train.seed))
    print(open_run(config, out))
    generator = make_generator(config)
    view = live_view(out)
    for stage in STAGES:
        train_stage(stage, config.train, photos, generator, PatchGAN(), out, view)
    return config, photos


def quick_run(out: Path) -> Path:
    """A finished run on the built-in photos, made now unless it is there: minutes on a CPU."""
    if not (out / "metrics.json").exists():
        run_training(DEMO, out, resume=(out / "checkpoints" / "last.pt").exists())
    return out


def make_generator(config: RunConfig) -> Generator:
    """A generator with the encoder weights that the settings wish for."""
    torch.manual_seed(config.train.seed)
    generator = Generator(encoder=config.encoder, working_size=config.data.size)
    load_encoder_weights(generator, config.train.encoder_weights)
    return generator


def train_stage(
    stage: str,
    config: TrainConfig,
    photos: Photos,
    generator: Generator,
    discriminator: nn.Module,
    out: Path,
    view: Callable[[], None] = lambda: None,
    gpus: int = 1,
) -> list[dict[str, Any]]:
    """Run a stage, or what is left of it, after a stop too.

    Args:
        stage: "pretrain" or "gan".
        out: run folder; see `Trainer`.
        view: called after each epoch, when the pictures in `out` are new.
        gpus: with more than one, as many processes train, and `view` is called at the end only.

    Returns:
        The history, a dict an epoch. `generator` then holds the averaged weights.

    Raises:
        ColorizeError: the user stopped it. Memory and `out` hold the averaged weights so far.
    """
    checkpoint = out / "checkpoints" / "last.pt"
    if gpus > 1:
        from accelerate import notebook_launcher

        job = (stage, config, photos, generator, discriminator, out)
        notebook_launcher(train_stage, job, num_processes=gpus)
        view()
        generator.load_state_dict(load_generator(out / "generator").state_dict())
        return load_checkpoint(checkpoint)["history"]
    callbacks = [sample_saver(out), lambda report: view()]
    resume = checkpoint.exists()
    trainer = Trainer(config, photos, generator, discriminator, out, resume, callbacks)
    try:
        return trainer.pretrain() if stage == "pretrain" else trainer.train_gan()
    except KeyboardInterrupt:
        raise ColorizeError(
            f"stopped: what was learnt is in {out / 'generator'}; this cell, run again, goes on "
            "from the last epoch that was finished"
        ) from None


def live_view(run: Path) -> Callable[[], None]:
    """Show the curves and the latest grid of a run folder under a cell; gives what renews them.

    They are the pictures that `train_stage` writes; what an earlier session left in the folder is
    shown at once.
    """
    views: dict[str, Any] = {}

    def renew() -> None:
        samples = sorted((run / "samples").glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        for name, file in (("curves", run / "curves.png"), ("samples", (samples or [run])[-1])):
            if not file.is_file():
                continue
            if name in views:
                views[name].update(Image(file))
            else:
                views[name] = display(Image(file), display_id=True)

    renew()
    return renew


def picture(figure: Figure, dpi: int = 100) -> Image:
    """A figure as a cell shows it: sharp, and small enough for a notebook to be kept."""
    return Image(jpeg(figure, dpi), format="jpeg")


@torch.no_grad()
def predictions(rgb: Tensor, weights: dict[str, Path]) -> tuple[Tensor, dict[str, Tensor]]:
    """L of photos, and their ab by several generators and in truth, for `viz.compare`.

    Args:
        rgb: uint8 (n, 3, H, W).
        weights: name to weights folder; those of a stage that was left out are passed over.
    """
    L, ab = to_network(rgb)
    there = {name: folder for name, folder in weights.items() if folder.is_dir()}
    versions = {name: load_generator(folder)(L) for name, folder in there.items()}
    return L, versions | {"truth": ab}


def extremes(
    rows: Sequence[dict[str, float]],
    photos: PhotoSet,
    colorizer: Colorizer,
    measure: str,
    count: int,
) -> tuple[Figure, Figure]:
    """Grids of the photos with the least and with the most of a measure."""
    order = sorted(range(len(rows)), key=lambda i: rows[i][measure])
    figures = []
    for chosen in (order[:count], order[::-1][:count]):
        L, ab = to_network(photos.__getitems__(chosen).to(colorizer.device))
        with torch.no_grad():
            tensors = (L.cpu(), colorizer.generator(L).cpu(), ab.cpu())
        captions = [f"{Path(photos.names[i]).name}: {rows[i][measure]:.1f}" for i in chosen]
        figures.append(grid(*tensors, captions))
    return figures[0], figures[1]
