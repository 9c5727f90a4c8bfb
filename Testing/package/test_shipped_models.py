"""Each backbone that ships (Resources/Models/NAME) is small, loads, and says what it is made of, how, and for what.

There may be none. What is asked of a folder is proved on a temporary one that lacks one thing at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from glmae.backbone.presets import preset
from glmae.backbone.vision_transformer import VisionTransformer
from glmae.backbone.weights import SHIPPED, load_backbone, write_weights
from glmae.errors import GLMAEError
from glmae.model_folder import CARD, WEIGHTS, write_model
from glmae.segmentation.finetune_config import FinetuneConfig
from GLMAESegmentationLib.setup.shipped_backbone import NAME

LARGEST = 12_000_000  # bytes of weights
NOTICE, PAGE = "LICENSE.md", "README.md"
# Section of the card's page: what its text must hold.
SECTIONS = {
    "Data": r"https?://",
    "License": r"Apache-2\.0|\bCC[ -]|\bMIT\b|\bBSD\b",
    "Recipe": r"(?m)^(glmae pretrain|python) ",
    "Curves": r"!\[[^\]]*\]\([^)]+\)|(?m:^\|.+\|$)",
    "Results": r"\d\.\d",
    "Limits": r"(?i)not a medical device",
}


def shipped() -> list[Path]:
    return sorted(path for path in SHIPPED.iterdir() if path.is_dir()) if SHIPPED.is_dir() else []


def complaints(folder: Path) -> list[str]:
    """What a folder of shipped weights lacks; [] when it may ship."""
    found: list[str] = []
    names = {path.name for path in folder.iterdir()}
    others = {name for name in names - {CARD, WEIGHTS, NOTICE, PAGE} if not name.endswith(".png")}
    found += [f"{name} is missing" for name in sorted({CARD, WEIGHTS, NOTICE, PAGE} - names)]
    found += [f"{name} does not belong here" for name in sorted(others)]
    if NOTICE in names:
        notice = (folder / NOTICE).read_text(encoding="utf-8")
        if not re.search(SECTIONS["License"], notice) or "https://" not in notice:
            found.append(f"{NOTICE} names no license with its address")
    if PAGE in names:
        found += page_complaints(folder / PAGE)
    if {CARD, WEIGHTS} <= names:
        found += weights_complaints(folder)
    return found


def page_complaints(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    parts = re.split(r"(?m)^## (.+)$", text)[1:]
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    found = [f"no section {name}" for name in SECTIONS if len(sections.get(name, "").strip()) < 20]
    found += [
        f"section {name} does not say it"
        for name, pattern in SECTIONS.items()
        if f"no section {name}" not in found and not re.search(pattern, sections[name])
    ]
    # The page is installed with the folder alone: what it leads to must be there or on the web.
    links = re.findall(r"\]\(([^)\s#]+)", text)
    found += [
        f"link to {link} leads nowhere"
        for link in links
        if not link.startswith("https://") and (".." in link or not (page.parent / link).is_file())
    ]
    return found


def weights_complaints(folder: Path) -> list[str]:
    found = []
    content = (folder / WEIGHTS).read_bytes()
    if len(content) > LARGEST:
        found.append(f"{WEIGHTS} has {len(content)} bytes")
    try:
        backbone = load_backbone(folder).eval()
        side = backbone.config.patch_size[0] * 2
        with torch.no_grad():
            tokens = backbone(torch.randn(1, backbone.config.channels, side, side, side))
        if not bool(torch.isfinite(tokens).all()) or float(tokens.std()) < 1e-3:
            found.append("its tokens are no use")
    except GLMAEError as error:
        return [*found, str(error)]
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    kinds = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    if kinds != {"F16"}:
        found.append(f"{WEIGHTS} holds {', '.join(sorted(kinds))} instead of F16")
    if re.search(r'"(/|~|[A-Za-z]:\\)', (folder / CARD).read_text(encoding="utf-8")):
        found.append(f"{CARD} names a path of the computer that made it")
    return found


def test_all_that_ships_may_ship() -> None:
    assert {folder.name: wrong for folder in shipped() if (wrong := complaints(folder))} == {}


def test_the_default_is_one_that_ships() -> None:
    names = [folder.name for folder in shipped()]
    assert not names or FinetuneConfig.preset in names


def test_the_panel_names_the_one_that_a_training_starts_from() -> None:
    assert FinetuneConfig.preset == NAME


TEXT = """# A backbone

## Data
120 MR scans of https://example.org/set, of 120 people.

## License
The weights: Apache-2.0. The scans: CC BY-SA 4.0, see LICENSE.md.

## Recipe
```
glmae pretrain --images SCANS --out BACKBONE --preset tiny --steps 10
```

## Curves
![losses of the run](losses.png)

## Results
Mean Dice 0.84 with it, 0.80 without it.

## Limits
Not a medical device; it has seen one organ only.
"""


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny"
    weights = VisionTransformer(preset("tiny")).half().state_dict()
    write_weights(folder / WEIGHTS, weights)
    write_model(folder, "backbone", {"backbone": preset("tiny").to_json(), "seed": 0})
    (folder / PAGE).write_text(TEXT, encoding="utf-8")
    (folder / NOTICE).write_text("Scans: CC BY-SA 4.0, https://example.org/set.\n", encoding="utf-8")
    (folder / "losses.png").write_bytes(b"")
    return folder


def test_a_whole_folder(good: Path) -> None:
    assert complaints(good) == []


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("left", ["", "It will be written later, as soon as there is time."])
def test_a_card_without_a_section(good: Path, section: str, left: str) -> None:
    text = re.sub(rf"(?ms)^## {section}\n.*?(?=^## |\Z)", f"## {section}\n{left}\n\n" if left else "", TEXT)
    (good / PAGE).write_text(text, encoding="utf-8")
    wanted = f"section {section} does not say it" if left else f"no section {section}"
    assert complaints(good) == [wanted]


def rewritten(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    weights = VisionTransformer(preset("tiny")).state_dict()
    write_weights(folder / WEIGHTS, {name: change(tensor) for name, tensor in weights.items()})


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda folder: (folder / NOTICE).unlink(), "LICENSE.md is missing"),
        (lambda folder: (folder / NOTICE).write_text("Ask us.", encoding="utf-8"), "LICENSE.md names no license"),
        (lambda folder: (folder / PAGE).unlink(), "README.md is missing"),
        (lambda folder: (folder / "losses.png").unlink(), "link to losses.png leads nowhere"),
        (lambda folder: (folder / "checkpoint.pth").touch(), "checkpoint.pth does not belong here"),
        (lambda folder: rewritten(folder, lambda tensor: tensor), "instead of F16"),
        (lambda folder: rewritten(folder, lambda tensor: (0 * tensor).half()), "its tokens are no use"),
        (lambda folder: rewritten(folder, lambda tensor: (tensor / 0).half()), "its tokens are no use"),
        (lambda folder: (folder / WEIGHTS).write_bytes(bytes(LARGEST + 1)), "has 12000001 bytes"),
        (
            lambda folder: write_model(
                folder, "backbone", {"backbone": preset("tiny").to_json(), "images": "/data/ct"}
            ),
            "names a path",
        ),
    ],
)
def test_a_folder_that_may_not_ship(good: Path, spoil: Callable[[Path], object], complaint: str) -> None:
    spoil(good)
    assert any(complaint in text for text in complaints(good)), complaints(good)
