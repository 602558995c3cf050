"""Save and load: weights folders, and checkpoints to resume from."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Set
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE
from safetensors import SafetensorError

from colorize.card import CARD_NAME
from colorize.errors import ColorizeError, first_line
from colorize.files import folder_beside, put
from colorize.generator import Generator

ASSETS = Path(__file__).parent.parent / "assets"  # of a checkout; an installed package has none

_DIGEST_SIZE = hashlib.sha256().digest_size
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # owner/name
_WEIGHTS = (CONFIG_NAME, SAFETENSORS_SINGLE_FILE)
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")
_NO_PICKLE = "is a pickle, which can run code when it is loaded"
# What the hub's client raises at a config.json that is no JSON, or no object.
_BAD_CONFIG = (json.JSONDecodeError, UnicodeDecodeError, AttributeError, RecursionError)


def save_weights(generator: Generator, folder: Path) -> None:
    """Write a weights folder: `config.json`, `model.safetensors`, and a model card if it has none.

    Over an older one, file by file and each whole: at no moment is there none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with folder_beside(folder) as temporary:
        generator.save_pretrained(temporary)
        for file in temporary.iterdir():
            if file.name != CARD_NAME or not (folder / CARD_NAME).exists():
                put(file, folder / file.name)


def shipped_weights() -> Path | None:
    """The weights for landscapes that come with a checkout of this project, if this is one."""
    folder = ASSETS / "weights" / "landscapes"
    return folder if folder.is_dir() else None


def load_generator(weights: str | Path | None = None) -> Generator:
    """Load a generator, ready to predict, from a weights folder or by its hub name.

    Args:
        weights: None takes those that come with a checkout of this project.

    Raises:
        ColorizeError: neither a weights folder nor within reach, or the weights do not fit.
    """
    if weights is None and (weights := shipped_weights()) is None:
        raise ColorizeError(
            "no weights are named, and this is no checkout with assets/weights/landscapes; name "
            "a run's generator/ or weights on the hub"
        )
    _check_place(weights)
    try:
        return Generator.from_pretrained(str(weights))
    except ColorizeError as error:
        raise ColorizeError(f"{weights}: {error}") from error
    except SafetensorError as error:
        raise ColorizeError(f"{weights}: {SAFETENSORS_SINGLE_FILE} is damaged ({error})") from error
    except Exception as error:  # bad JSON, or the hub client's own errors
        here = Path(weights).is_dir()
        what = "cannot be read" if here else "no such folder here, nor to be had from the hub"
        if isinstance(error, _BAD_CONFIG):
            what = f"{CONFIG_NAME} is damaged"
        raise ColorizeError(f"{weights}: {what} ({first_line(error)})") from error


def _check_place(weights: str | Path) -> None:
    """Refuse what is neither a weights folder nor may be a hub name."""
    folder = Path(weights)
    if folder.is_dir():
        if missing := [name for name in _WEIGHTS if not (folder / name).is_file()]:
            hint = f"; try {folder / 'generator'}" if (folder / "generator").is_dir() else ""
            pickles = sorted(f.name for f in folder.iterdir() if f.suffix.lower() in _PICKLES)
            if pickles and SAFETENSORS_SINGLE_FILE in missing:
                hint = f"; {pickles[0]} {_NO_PICKLE}{hint}"
            raise ColorizeError(
                f"{weights}: no weights folder, it has no {' and no '.join(missing)}{hint}"
            )
    elif folder.is_file():
        pickled = folder.suffix.lower() in _PICKLES
        what = f"{_NO_PICKLE}; give a folder" if pickled else "is a file; give its folder"
        raise ColorizeError(f"{weights}: {what} with {' and '.join(_WEIGHTS)}")
    elif not _HUB_NAME.fullmatch(str(weights)) or folder.parent.is_dir():
        raise ColorizeError(f"{weights}: no such weights folder; a run keeps one in RUN/generator")


def checkpoint_path(run: Path) -> Path:
    """Where a run folder keeps its last checkpoint."""
    return run / "checkpoints" / "last.pt"


def has_checkpoint(run: Path) -> bool:
    """Whether a run folder has something to go on from."""
    path = checkpoint_path(run)
    return path.exists() or _before(path).exists()


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values, whole and on the disk when this returns.

    The checkpoint that was there is kept as `previous.pt`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with folder_beside(path) as folder:
        file = folder / path.name
        with open(file, "wb") as raw:
            hashed = _Hashed(raw)
            try:
                torch.save(state, hashed)
            except RuntimeError as error:  # torch's, which does not say why it could not write
                raise hashed.error or error from None
            raw.write(hashed.digest.digest())
        put(file, path, before=_before(path))


def load_checkpoint(path: Path, keys: Set[str] = frozenset()) -> dict[str, Any]:
    """Read a checkpoint to the CPU, or the one before it if it is damaged, which is said.

    Only tensors and plain values are read, no pickled code.

    Args:
        keys: what it must hold.

    Raises:
        ColorizeError: both are missing or damaged, or lack a key.
    """
    found = [file for file in (path, _before(path)) if file.is_file()]
    if not found:
        raise ColorizeError(f"{path}: no checkpoint to resume from; leave out --resume")
    for file in found:
        try:
            state = _read_checkpoint(file)
        except (OSError, MemoryError) as error:  # a disk or a machine in trouble is no damage
            if isinstance(error, OSError) and not error.filename:
                error.filename = str(file)
            raise
        except Exception as error:  # zip, pickle and torch errors alike
            damage = error
            continue
        if not state.keys() >= keys:
            raise ColorizeError(f"{file}: not a checkpoint of this version; start anew")
        if file != path:
            print(f"{path}: {'damaged' if path.exists() else 'missing'}; going on from {file.name}")
            # The next one must not push out the good one.
            with suppress(FileNotFoundError):
                path.replace(path.with_name("damaged.pt"))
        return state
    raise ColorizeError(
        f"{path.parent}: no checkpoint that is not damaged; delete this folder and start again"
    ) from damage


class _Hashed:
    """A file that knows its checksum once it is written, or else why it is not."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: BaseException | None = None

    def write(self, part: bytes) -> int:
        self.digest.update(part)
        try:
            return self.file.write(part)
        except BaseException as error:  # Ctrl-C too
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _read_checkpoint(path: Path) -> dict[str, Any]:
    # Torch itself loads a file with a flipped bit without a word, and a zip's own checksums say
    # nothing of where its parts begin; what lies behind the zip does not disturb it.
    size = path.stat().st_size - _DIGEST_SIZE
    with open(path, "rb") as file:
        file.seek(max(size, 0))
        if file.read() != _digest(path, size):
            raise ValueError("the checksum is another")
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"holds a {type(state).__name__}")
    return state


def _digest(path: Path, size: int) -> bytes:
    """The checksum of the first `size` bytes of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while size > 0 and (part := file.read(min(size, 1 << 20))):
            digest.update(part)
            size -= len(part)
    return digest.digest()


def _before(path: Path) -> Path:
    return path.with_name("previous.pt")
