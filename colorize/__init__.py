"""Colourise grey photos with a GAN that you train yourself.

    from PIL import Image
    from colorize import Colorizer
    Colorizer.from_pretrained()(Image.open("old_photo.jpg")).save("new.png")

Read it in this order: color, dataset, generator, discriminator, losses, steps, trainer. A setting
begins in config, gets its option in options, and its command in cli. The folders are services:
whoever changes a network or a loss need not open them.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = ["ColorizeError", "Colorizer", "__version__"]

if TYPE_CHECKING:
    from colorize.predict import Colorizer
    from colorize.system.errors import ColorizeError


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> type:
    # On first use, so that `import colorize` and `colorize --help` do not wait for torch.
    if name == "Colorizer":
        from colorize.predict import Colorizer

        return Colorizer
    if name == "ColorizeError":
        from colorize.system.errors import ColorizeError

        return ColorizeError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
