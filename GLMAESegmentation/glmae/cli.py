"""The command line: `glmae pretrain | finetune | segment | ...`. It parses, calls the job, says how it ended."""

from __future__ import annotations

import argparse
import json
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

from . import __version__
from .errors import GLMAEError, RequestError, Stopped
from .events import Events, json_lines
from .files import has_utf8_name, shown
from .stop_signals import StopSignals
from .terminal import terminal

DEVICE_NAMES = ("auto", "cpu", "cuda", "mps")
MINUTES = 10.0  # of a training, where nothing is said


class _Parser(argparse.ArgumentParser):
    """One line for a wrong request, like every other mistake."""

    def error(self, message: str) -> Any:
        raise RequestError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 some cases failed, 2 wrong request, 130 stopped."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # What `live` says is for a program in any case.
    events = json_lines() if "--events" in words or words[:1] == ["live"] else terminal()
    warnings.filterwarnings("ignore", category=FutureWarning)  # libraries talking to developers
    with StopSignals() as signals:
        return _run(words, events, signals.stopped)


def _run(words: Sequence[str], events: Events, stopped: Callable[[], bool]) -> int:
    try:
        options = _parser().parse_args(words)
        _check_paths(options)
        return int(options.run(_words(options) | {"events": events, "should_stop": stopped}))
    except GLMAEError as error:
        events.failed(type(error).__name__, str(error))
        return error.exit_status
    except KeyboardInterrupt:
        events.failed(Stopped.__name__, "stopped")
        return Stopped.exit_status
    except BrokenPipeError:
        return 1
    except Exception as error:
        if sys.flags.dev_mode:  # python -X dev -m glmae ...: for whoever looks for the cause
            raise
        from .job import failure  # loads torch

        events.failed(*failure(error, "job"))
        return 1


def _words(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of the function that does what the command asks for; they have the names of its options."""
    words = {name: value for name, value in vars(options).items() if name not in ("run", "json_lines")}
    if "steps" in words and words["steps"] is None:
        words["minutes"] = words["minutes"] or MINUTES
    if "settings" in words:
        words["settings"] = dict(words["settings"])
    return words


def _check_paths(options: argparse.Namespace) -> None:
    """Refuse paths that are no text, which libraries of images cannot be given."""
    for value in vars(options).values():
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, Path) and not has_utf8_name(path):
                raise RequestError(f"the name of {shown(path)} is not UTF-8; rename it")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="glmae", description="Segment 3D scans from a few labeled ones.")
    parser.add_argument("--version", action="version", version=f"glmae {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    pretrain = _command(commands, "pretrain", _pretrain, "pre-train a backbone on scans without labels (GL-MAE)")
    _path(pretrain, "--images", "a folder of scans, or a text file, one path a line")
    _path(pretrain, "--out", "folder for the backbone; made here", metavar="RUN")
    pretrain.add_argument("--preset", choices=("tiny", "small", "base"), default="tiny", help="size (default: tiny)")
    _training_options(pretrain, 1, "train for N steps; the same seed gives the same weights")
    _setting_option(pretrain, "PretrainConfig")

    finetune = _command(commands, "finetune", _finetune, "train a segmentation model from a few labeled scans")
    _case_options(finetune)
    start = finetune.add_mutually_exclusive_group()
    _backbone_option(start)
    start.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="MODEL",
        help="go on with an earlier model, for instance after a correction or with a further label",
    )
    _path(finetune, "--out", "folder for the model; made here", metavar="MODEL")
    folds = "score on held-out scans, too: K further trainings, each without a K-th of the scans (default: none)"
    finetune.add_argument("--folds", type=_whole(1), default=0, metavar="K", help=folds)
    _training_options(
        finetune,
        0,
        "train for N steps; the same seed gives the same weights; 0: only fit the head to the frozen backbone's maps",
    )
    finish = "end an interrupted run now: write the model of what it has learned so far, instead of going on"
    finetune.add_argument("--finish", action="store_true", help=finish)
    _setting_option(finetune, "FinetuneConfig")

    segment = _command(commands, "segment", _segment, "segment scans with a trained model")
    _path(segment, "--model", "folder made by finetune")
    scans = "scans, folders of scans or DICOM files, text files with one path a line"
    _path(segment, "--images", scans, nargs="+", metavar="FILE|DIR|LIST")
    _path(segment, "--out", "folder for results and report", metavar="DIR")
    segment.add_argument(
        "--format",
        dest="file_format",
        choices=("seg.nrrd", "nii.gz", "dcm"),
        default="seg.nrrd",
        help="default: seg.nrrd; dcm is a DICOM segmentation and, as DICOM requires, names the patient and the series",
    )
    part = "every N-th scan from the I-th on, for N processes"
    segment.add_argument("--part", type=_part, default=(1, 1), metavar="I/N", help=part)
    _device_option(segment)

    live = _command(commands, "live", _live, "answer a front end: fit to its labels, segment, compute ahead while idle")
    _path(live, "--images", "folder of scans, as for finetune")
    _path(live, "--labels", "folder of labels with the same NAMEs")
    _classes_option(live)
    _backbone_option(live)
    live.add_argument("--cache", type=Path, metavar="DIR", help="keep what is computed there (default: nothing stays)")
    _device_option(live)
    _setting_option(live, "FinetuneConfig")

    evaluate = _command(commands, "evaluate", _evaluate, "compare segmentations with labels")
    _path(evaluate, "--predictions", None, metavar="DIR")
    _path(evaluate, "--labels", None, metavar="DIR")
    _classes_option(evaluate)
    _path(evaluate, "--out", None, metavar="report.json")

    check = _command(commands, "check", _check, "look for slips in the labels, and what training will take here")
    _case_options(check)
    _device_option(check)

    published = _command(
        commands, "import-checkpoint", _import_checkpoint, "make a backbone of the GL-MAE authors' checkpoint"
    )
    published.add_argument("file", type=Path, metavar="FILE", help="checkpoint-1599.pth, or a file of that layout")
    _path(published, "--out", "folder for the backbone; made here", metavar="DIR")
    return parser


def _command(commands: Any, name: str, run: Callable[..., int], help_text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=help_text, description=help_text[0].upper() + help_text[1:] + "."
    )
    command.add_argument(
        "--events", dest="json_lines", action="store_true", help="report as one JSON object a line (docs/events.md)"
    )
    command.set_defaults(run=run)
    return command


def _path(command: argparse.ArgumentParser, name: str, help_text: str | None, **words: Any) -> None:
    command.add_argument(name, type=Path, required=True, help=help_text, **words)


def _case_options(command: argparse.ArgumentParser) -> None:
    _path(command, "--images", "folder of scans: NAME.nii.gz, NAME.nrrd, NAME.mha or NAME/")
    _path(command, "--labels", "folder of labels with the same NAMEs")
    command.add_argument("--cases", nargs="+", metavar="NAME", help="only these cases (default: all with a label)")
    _classes_option(command)


def _classes_option(command: argparse.ArgumentParser) -> None:
    names = "names of the label values (default: LABELS/classes.json)"
    command.add_argument("--classes", type=Path, metavar="FILE", help=names)


def _backbone_option(command: Any) -> None:
    backbone = "pre-trained backbone (default: the one that is shipped)"
    command.add_argument("--backbone", metavar="NAME|PATH|none", help=backbone)


def _training_options(command: argparse.ArgumentParser, fewest_steps: int, help_text: str) -> None:
    length = command.add_mutually_exclusive_group()
    length.add_argument("--steps", type=_whole(fewest_steps), metavar="N", help=help_text)
    length.add_argument("--minutes", type=_minutes, metavar="M", help="be ready after M minutes (default: 10)")
    command.add_argument("--seed", type=_whole(0, 2**32 - 1), default=0, metavar="S")  # what all generators take
    command.add_argument("--resume", action="store_true", help="go on with an interrupted run in the same folder")
    _device_option(command)


def _device_option(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", choices=DEVICE_NAMES, default="auto", help="default: auto")


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number above zero")
    return value


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """What reads a whole number from `least` to `most`."""
    wanted = f"from {least} on" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most is not None and value > most):
            raise argparse.ArgumentTypeError(f"{text} is not a whole number {wanted}")
        return value

    return read


def _part(text: str) -> tuple[int, int]:
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text} is no part, like 2/8")
    return int(number), int(count)


def _setting_option(parser: argparse.ArgumentParser, config: str) -> None:
    parser.add_argument(
        "--setting",
        dest="settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"a field of {config} instead of the planned one, value in JSON; for experiments, may be repeated",
    )


def _setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value  # plain words need no quotes


def _pretrain(words: dict[str, Any]) -> int:
    from .pretraining.image_files import pretrain_images

    return 1 if pretrain_images(**words) else 0


def _finetune(words: dict[str, Any]) -> int:
    from .segmentation.finetuning import finetune

    finetune(**words)
    return 0


def _segment(words: dict[str, Any]) -> int:
    from .segmentation.batch import segment

    return 1 if segment(**words) else 0


def _live(words: dict[str, Any]) -> int:
    from .segmentation.live import live

    # Not sys.stdin, whose lock a thread that waits for a line would hold while the interpreter ends.
    live(**words, requests=FileIO(sys.stdin.fileno(), closefd=False))
    return 0


def _evaluate(words: dict[str, Any]) -> int:
    from .segmentation.evaluation import evaluate

    return 1 if evaluate(**words) else 0


def _check(words: dict[str, Any]) -> int:
    from .segmentation.requirements import check

    return 1 if any(finding.severity == "error" for finding in check(**words)) else 0


def _import_checkpoint(words: dict[str, Any]) -> int:
    from .backbone.published_checkpoint import import_checkpoint

    import_checkpoint(words["file"], words["out"], events=words["events"])
    return 0
