"""A process that speaks as the engine does and needs no torch. A file beside it says how it behaves."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def say(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def train(behavior: str, out: Path) -> int:
    start = Path(sys.argv[sys.argv.index("--from") + 1]) if "--from" in sys.argv else None
    if start is not None and (behavior == "other version" or not (start / "model.json").exists()):
        message = f"{start} was made by another version of GLMAE, whose network this one does not know; train it again"
        say("failed", name="ModelError", message=message)
        return 2
    if behavior == "crash":
        print("Traceback: segmentation violation", file=sys.stderr)
        return 139
    if behavior == "gpu":
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if behavior == "disk":
        say("failed", name="StorageError", message="out: the disk is full; free some space.")
        return 1
    if behavior == "deaf":
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if behavior == "finish":
        shutil.copytree(HERE / "model", out)
        say("finished", job="finetune", model=str(out))
        return 0
    if behavior == "long step":
        return long_step(out)
    if "--finish" in sys.argv:
        shutil.rmtree(out)
        shutil.copytree(HERE / "model", out)
        say("finished", job="finetune", model=str(out))
        return 0
    if behavior == "odd label":
        say_what_is_odd()
    checkpoint = out / "unfinished" / "checkpoint.safetensors"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.touch()
    asked = out / "unfinished" / "preview.json"
    for step in range(10000):
        if asked.exists():
            preview(Path(json.loads(asked.read_text(encoding="utf-8"))["image"]), out / "unfinished", step)
            asked.unlink()
        say("progress", stage="finetune", done=step, total=10000, seconds_left=60, loss=1.0)
        time.sleep(0.05)
    return 0


def long_step(out: Path) -> int:
    """As the engine: the first request waits for the end of the step, the second breaks it off."""
    asked: list[int] = []

    def ask(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    signal.signal(signal.SIGINT, ask)
    say("progress", stage="finetune", done=1, total=9, loss=1.0)
    say("progress", stage="finetune", done=2, total=9, loss=1.0)
    try:
        for _ in range(1200):  # a single sleep would not notice: no signal of the system is sent
            time.sleep(0.05)
    except KeyboardInterrupt:
        (out / "unfinished").mkdir(parents=True)
        (out / "unfinished" / "checkpoint.safetensors").touch()
        say("failed", name="Stopped", message="stopped")
    return 130


def say_what_part_was_labeled(labels: Path) -> None:
    """As the engine: asks about case-02, unless the class file says it."""
    if (labels / "classes.json").exists():
        message = "case case-02: only the 9 slices along K that hold labels are trained on, as its region says."
        say("info", message=message, case="case-02", check="region")
    else:
        message = "case case-02: labels lie in 9 single slices along K only; the rest counts as background, unless "
        say(
            "warning",
            message=message + 'classes.json says what was labeled: {"a": 1}.',
            case="case-02",
            check="region",
        )


def say_what_is_odd() -> None:
    message = (
        "case case-02: 'Anterior' has 9 voxels far from all the rest, near voxel [1, 2, 3]; they are trained on like "
        "the others, so erase them if they are a slip."
    )
    say("warning", message=message, case="case-02", classes=["Anterior"], check="island")


def preview(image: Path, folder: Path, step: int) -> None:
    case = image.name.removesuffix(".nrrd")
    if not (HERE / "result.seg.nrrd").exists():
        say("preview", case=case, step=step, message=f"no preview of {case}: not enough memory")
        return
    (folder / "preview").mkdir(exist_ok=True)
    say("preview", case=case, step=step, file=str(shutil.copy(HERE / "result.seg.nrrd", folder / "preview")))


def check(behavior: str, labels: Path) -> int:
    if behavior == "slow":
        time.sleep(60)
    if behavior == "odd label":
        say_what_is_odd()
    if behavior == "single slices":
        say_what_part_was_labeled(labels)
    if behavior == "little memory":
        needed = "training needs about 9.0 GB of memory and 1.0 GB are free on cpu; "
        remedy = "close other programs, or choose another --device"
        say("failed", name="RequestError", message=needed + remedy)
        return 2
    say("estimate", memory_bytes=400_000_000, free_bytes=9_000_000_000, message="")
    say("finished", job="check", findings=0)
    return 0


def looked_at(case: str) -> dict[str, Any]:
    """As the engine: doubts without a full stop, and how unsure it was; here the more, the later the scan."""
    number = int(case.removeprefix("case-"))
    messages = [
        "Anterior reaches the left border of the scan and may be cut off",
        "the model is unsure about Anterior: its choice has a probability of 62% on average",
    ]
    flags = [{"class": "Anterior", "kind": "cut off", "message": message} for message in messages]
    return {"flags": flags if number > 1 else [], "uncertainty": {"Anterior": 0.1 * number, "Posterior": 0.05}}


def segment(behavior: str, images: Path, out: Path) -> int:
    """Every scan gets the same result; "fail NAME" fails one, "slow" waits between two."""
    failed = []
    out.mkdir(exist_ok=True)
    for image in sorted(images.iterdir()):
        case = image.name.removesuffix(".nrrd")
        target = out / f"{case}.seg.nrrd"
        if target.exists():
            say("case", case=case, state="skipped", file=str(target), message="is there already")
            continue
        say("case", case=case, state="running")
        if behavior == "slow":
            time.sleep(3.0)  # longer than a busy machine needs to notice the last one
        if behavior == f"fail {case}" or not image.exists():
            failed.append(case)
            say(
                "case",
                case=case,
                state="failed",
                name="ScanError",
                message=f"{image} has the same value, 7, everywhere; export the scan again",
            )
            continue
        shutil.copy(HERE / "result.seg.nrrd", target)
        say("case", case=case, state="done", file=str(target), **(looked_at(case) if behavior == "flags" else {}))
    say("finished", job="segment", failed=failed, out=str(out))
    return 1 if failed else 0


def main() -> int:
    words = sys.argv[1:]
    behavior = (HERE / "behavior").read_text(encoding="utf-8")
    if words[0] != "live":
        say("started", job=words[0], cases=2, classes=[], device="cpu")
        say("info", message="Computing on the CPU.")
    if words[0] == "check":
        return check(behavior, Path(words[words.index("--labels") + 1]))
    if words[0] == "live":
        sys.path.insert(0, str(HERE))
        from stand_in_live import live

        return live(words)
    out = Path(words[words.index("--out") + 1])
    if words[0] == "finetune":
        return train(behavior, out)
    return segment(behavior, Path(words[words.index("--images") + 1]), out)


if __name__ == "__main__":
    sys.exit(main())
