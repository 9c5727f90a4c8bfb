"""Runs the engine's command line in a child process that ends when its parent does.

    PythonSlicer -m GLMAESegmentationLib.engine.child ALIVE COMMAND ...

ALIVE is a file that is touched every few seconds, so that a job whose process is gone is recognized later. The parent
holds the other end of standard input: a line `stop` asks the job to stop at its next step, as Ctrl-C does; the end of
the stream means that the parent is gone. (Windows has no signal that a parent without a console could send.) What is
written to `glmae live` are its requests: they are passed on, and only the end of the stream ends it.
"""

from __future__ import annotations

import _thread
import os
import runpy
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

HEARTBEAT_SECONDS = 2.0
# Until a step that is under way is interrupted.
ASK_AGAIN_SECONDS = 1.5
# From the request to stop to the end by force. The parent waits a little longer.
STOP_SECONDS = 3.5
FORCED_STATUS = 137


def main(arguments: list[str]) -> None:
    """Run `glmae` with all but the first of `arguments`; the first is the file to keep alive."""
    alive = Path(arguments[0])
    threading.Thread(target=_beat, args=(alive,), daemon=True).start()
    descriptor = os.dup(sys.stdin.fileno())  # not sys.stdin: its lock would be held while the interpreter shuts down
    if arguments[1:2] == ["live"]:
        requests, passed_on = os.pipe()
        os.dup2(requests, sys.stdin.fileno())
        os.close(requests)
        threading.Thread(target=_pass_on, args=(descriptor, passed_on), daemon=True).start()
    else:
        threading.Thread(target=_listen, args=(descriptor,), daemon=True).start()
    sys.argv = ["glmae", *arguments[1:]]
    try:
        runpy.run_module("glmae", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        # Without taking the interpreter down, which with torch takes over a second: all files are written.
        if isinstance(end.code, int):
            with suppress(OSError):  # nobody reads any more
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(end.code)
        raise


def _beat(alive: Path) -> None:
    while True:
        with suppress(OSError):  # a full disk must not end the job
            alive.touch()
        time.sleep(HEARTBEAT_SECONDS)


def _pass_on(descriptor: int, passed_on: int) -> None:
    """Pass requests on; at the end of the stream the engine ends, or is ended in the midst of what it is at."""
    while data := os.read(descriptor, 65536):
        os.write(passed_on, data)
    os.close(passed_on)
    time.sleep(STOP_SECONDS)
    os._exit(FORCED_STATUS)


def _listen(descriptor: int) -> None:
    """Wait for `stop` or the end of the stream, then ask, ask again, insist."""
    received = b""
    while b"stop" not in received:
        data = os.read(descriptor, 64)
        if not data:
            break
        received = (received + data)[-64:]
    _thread.interrupt_main(signal.SIGINT)
    time.sleep(ASK_AGAIN_SECONDS)
    _thread.interrupt_main(signal.SIGINT)  # a second Ctrl-C ends a long step in its midst
    time.sleep(STOP_SECONDS - ASK_AGAIN_SECONDS)
    os._exit(FORCED_STATUS)


if __name__ == "__main__":
    main(sys.argv[1:])
