"""The methods that are compared, by the names they have in the results."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from task import Outcome, Task

from glmae.errors import RequestError

# The module whose `run(task)` trains, and segments the test scans.
METHODS = {
    "glmae": "ours",
    "glmae_scratch": "ours",
    "glmae_instant": "ours",
    "dynunet": "peers.dynunet",
    "dynunet_post": "peers.dynunet",
    "segresnet": "peers.segresnet",
    "segresnet_post": "peers.segresnet",
    "unetr": "peers.unetr",
    "nnunet": "peers.nnunet",
    "atlas": "peers.atlas",
}
# Methods that make sense with so many labels only: the time of the atlas grows with each.
LABELS = {"atlas": (1, 2)}


def check_method(name: str) -> None:
    """Raises RequestError if there is no such method."""
    if name not in METHODS:
        raise RequestError(f"there is no method {name}; choose from {', '.join(METHODS)}")


def applies(method: str, labels: int) -> bool:
    """Whether a method is compared at this number of labels."""
    return labels in LABELS.get(method, (labels,))


def method(name: str) -> Callable[[Task], Outcome]:
    """The function that runs a method."""
    check_method(name)
    run: Callable[[Task], Outcome] = importlib.import_module(METHODS[name]).run
    return run
