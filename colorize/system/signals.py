"""Requests to stop reach a command as Ctrl-C does."""

from __future__ import annotations

import _thread
import signal
import sys
import threading


def stop_in_order() -> None:
    """A request to end and a closed terminal are as Ctrl-C: what is half written is removed."""
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):  # Windows has one of them
            number = getattr(signal, name, None)
            if number and signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP
                signal.signal(number, signal.default_int_handler)
        sys.unraisablehook = _ask_again


def _ask_again(lost: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised while an object is destroyed, also a request to stop."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        again = threading.Timer(0.1, _interrupt)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(lost)


def _interrupt() -> None:
    if hasattr(signal, "pthread_kill"):  # wakes who sleeps, too
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
    else:  # Windows
        _thread.interrupt_main(signal.SIGTERM)
