"""Events for people: progress bars with the time left, warnings and results as lines."""

from __future__ import annotations

import io
import sys
from typing import Any

from tqdm import tqdm

from .events import Events


def terminal() -> Events:
    """Events shown on a terminal: progress and remarks on standard error, results on standard output."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Redirected on Windows, it has the code page of the system, which lacks the letters of many a folder's name.
        sys.stdout.reconfigure(errors="backslashreplace")
    return Events(_Terminal())


class _Terminal:
    """Keeps the one progress bar that is open."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._stage: str | None = None

    def __call__(self, event: dict[str, Any]) -> None:
        getattr(self, f"_{event['event']}", lambda event: None)(event)

    def _progress(self, event: dict[str, Any]) -> None:
        if self._bar is None or self._stage != event["stage"]:
            self._close()
            self._stage = event["stage"]
            self._bar = tqdm(
                total=event["total"],
                desc=event["stage"],
                leave=False,
                dynamic_ncols=True,
                disable=None,  # no bar where standard error is no terminal
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {postfix}",
            )
        self._bar.total = event["total"]
        self._bar.n = event["done"]
        left = event.get("seconds_left")
        loss = event.get("loss")
        notes = [] if loss is None else [f"loss {loss:.3f}"]
        notes += [] if left is None else [f"{tqdm.format_interval(left)} left"]
        self._bar.set_postfix_str(", ".join(notes), refresh=False)
        self._bar.refresh()
        if event["done"] >= event["total"]:
            self._close()

    def _warning(self, event: dict[str, Any]) -> None:
        self._line(f"warning: {event['message']}")

    def _info(self, event: dict[str, Any]) -> None:
        self._line(event["message"])

    _estimate = _info

    def _case(self, event: dict[str, Any]) -> None:
        if event["state"] == "failed":
            self._line(f"failed: {event['message']}")
        elif event["state"] == "skipped":
            self._line(f"skipped: {event['message']}")
        for flag in event.get("flags", ()):
            self._line(f"doubtful: {event['case']}: {flag['message']}")

    def _score(self, event: dict[str, Any]) -> None:
        self._close()
        if event["mean_dice"] is not None:
            width = max(len("class"), *map(len, event["classes"]))
            print(f"{'class':<{width}}  Dice  SD    scans")
            for name, entry in event["classes"].items():
                print(f"{name:<{width}}  {_dice(entry)}")
        print(event["message"], flush=True)

    def _finished(self, event: dict[str, Any]) -> None:
        self._close()
        if event.get("message"):
            print(event["message"], flush=True)

    def _failed(self, event: dict[str, Any]) -> None:
        self._line(f"glmae: {event['message']}" if event["name"] == "Stopped" else f"glmae: error: {event['message']}")

    def _line(self, text: str) -> None:
        self._close()
        print(text, file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, None


def _dice(entry: dict[str, Any]) -> str:
    dice, sd = ("  – " if entry[name] is None else f"{entry[name]:.2f}" for name in ("dice", "sd"))
    return f"{dice}  {sd}  {entry['scans']}"
