"""Errors whose text is meant for the user: one line that says what to do."""

from __future__ import annotations

import errno

_LONGEST = 120


class ColorizeError(Exception):
    """Bad input: one line that says what is wrong, with which file, and what to do.

    The command line prints it without a traceback; in a notebook it reads as it is.
    """


def printable(text: str) -> str:
    """Text as one line: a file's name may hold line breaks, or bytes that are no characters."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def first_line(error: BaseException) -> str:
    """What an exception of another library says, short enough for one line of ours."""
    reason = getattr(error, "reason", None) or error  # URLError keeps the cause in `reason`
    # Some texts begin with a line break.
    line = (str(reason).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."


def one_line(error: BaseException) -> str | None:
    """What to tell the user of an error that is theirs or the machine's; None of any other."""
    if isinstance(error, ColorizeError):
        return str(error)
    # torch's own by its name: importing torch for it would take seconds.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "out of memory; try a smaller batch size (--batch-size, BATCH_SIZE) or size"
    if not isinstance(error, OSError):
        return None
    reason = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        reason = "no space left on the disk; nothing that was finished before is lost"
    return f"{error.filename}: {reason}" if error.filename else reason
