"""The command line as tests call it: in this process, its events as dictionaries."""

from __future__ import annotations

import json

from glmae.cli import main


def run(*words: object) -> int:
    return main([str(word) for word in words])


def events_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]
