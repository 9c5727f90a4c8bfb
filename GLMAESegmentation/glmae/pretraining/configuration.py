"""The configuration of a pre-training run. What the paper leaves unknown is a field here, marked 'our choice'."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..backbone.presets import BackboneConfig, preset
from ..errors import RequestError
from ..json_record import JsonRecord


@dataclass(frozen=True, kw_only=True)
class LossWeights(JsonRecord):
    """Weights of the terms of the loss; a term with weight 0 is not computed at all.

    The paper does not give them; they are our choice. `spread` is our extension, off unless asked for or planned
    (`planned_config`): it keeps the CLS tokens of a batch's volumes apart (`gl_mae.spread_loss`), which takes many.
    """

    local_reconstruction: float = 1.0
    global_reconstruction: float = 1.0
    global_global: float = 0.1
    global_local: float = 0.1
    spread: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(JsonRecord):
    """Everything that decides the weights of a backbone, beside the scans and the number of steps.

    Attributes:
        backbone: the network, its patch and the sizes of its views.
        global_views: p, complete for the teacher and masked for the student. DINO's 2.
        local_views: q, masked. DINO's 8; each costs an eighth of a global one or less, so the small presets keep them.
        mask_ratio: share of the patches that is masked, in global and local views alike.
        normalize_patches: whether the reconstruction target is normalized patch by patch, as in MAE (our choice).
        neighborhood: side of the region that all views of a volume come from, in sides of a global view (our choice).
        global_scale: range of the prepared voxels that one voxel of a global view spans (our choice): views stay near
            the resolution at which the backbone is used later.
        local_scale: the same for local views (our choice).
        stretch: largest ratio of the magnifications of two axes, where a scan is smaller than a view (our choice).
        intensity_jitter: each view's contrast is multiplied by up to exp(+-jitter) and its brightness shifted by up to
            +-jitter standard deviations (our choice).
        hidden: width of the projectors' hidden layers.
        bottleneck: length of the vectors that the prototypes are compared with.
        prototypes: DINO's 65,536 for base; fewer for the small presets, which see few volumes (our choice).
        student_temperature: DINO's.
        teacher_temperature: DINO's.
        center_momentum: DINO's.
        ema_start: momentum of the teacher in the first step; it rises to 1 by half a cosine. DINO's 0.996.
        learning_rate: AdamW's peak rate. For base the paper's lineage has 1.5e-4 x batch / 256, made for days of
            training; the small presets get the usual rate of small transformers, for minutes to hours (our choice).
        weight_decay: AdamW's, on matrices only.
        warm_up: share of the steps in which the rate rises linearly (our choice; the lineage's 40 of 1600 epochs).
        clip: largest gradient norm. DINO's.
        frozen_prototypes: share of the steps at the start in which the prototypes do not move; DINO's first of 100
            epochs.
        output: whose encoder is kept at the end, teacher or student; without a teacher the student (our choice: the
            teacher, as in DINO; in the small presets, made for minutes to hours, the student, which a teacher of this
            momentum trails, and whose tokens the trunk of the shipped backbone has learned to read).
        seed: of initialization, views and masks.
    """

    backbone: BackboneConfig
    weights: LossWeights = LossWeights()
    global_views: int = 2
    local_views: int = 8
    mask_ratio: float = 0.6
    normalize_patches: bool = True
    neighborhood: float = 1.25
    global_scale: tuple[float, float] = (0.75, 1.25)
    local_scale: tuple[float, float] = (0.6, 1.5)
    stretch: float = 1.5
    intensity_jitter: float = 0.1
    hidden: int = 2048
    bottleneck: int = 256
    prototypes: int = 65536
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    center_momentum: float = 0.9
    ema_start: float = 0.996
    learning_rate: float = 1.5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    warm_up: float = 0.05
    clip: float = 3.0
    frozen_prototypes: float = 0.01
    batch: int = 4
    output: str = "teacher"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            RequestError: a field is out of its range.
        """
        weights = self.weights.to_json()
        if any(weight < 0 for weight in weights.values()) or not any(weights.values()):
            raise RequestError(f"loss weights {weights}: none may be negative and one must be above zero")
        if not 0 < self.mask_ratio < 1:
            raise RequestError(f"mask ratio {self.mask_ratio} must lie between 0 and 1")
        if self.batch < 1 or self.global_views < 1 or self.local_views < 1:
            raise RequestError("a step needs at least one volume, one global and one local view")
        if self.output not in ("teacher", "student"):
            raise RequestError(f"output '{self.output}' must be teacher or student")

    @property
    def uses_teacher(self) -> bool:
        """Whether a consistency term is on."""
        return self.weights.global_global > 0 or self.weights.global_local > 0

    @property
    def masks_globals(self) -> bool:
        """Whether the student sees the global views."""
        weights = self.weights
        return weights.global_reconstruction > 0 or weights.global_global > 0 or weights.spread > 0

    @property
    def masks_locals(self) -> bool:
        """Whether the student sees the local views."""
        return self.weights.local_reconstruction > 0 or self.weights.global_local > 0

    def changed(self, settings: Mapping[str, Any]) -> PretrainConfig:
        """The same with other values for some fields, see `JsonRecord.changed`."""
        if "backbone" in settings:
            raise RequestError("the backbone is no setting of pre-training; choose another --preset")
        return super().changed(settings)


# Our choice where it differs from the paper's lineage: heads in proportion to the encoder, rates for short runs.
_BY_PRESET: dict[str, dict[str, Any]] = {
    "tiny": {
        "hidden": 512,
        "bottleneck": 128,
        "prototypes": 1024,
        "learning_rate": 1.5e-3,
        "batch": 2,
        "output": "student",
    },
    "small": {
        "hidden": 1024,
        "bottleneck": 256,
        "prototypes": 4096,
        "learning_rate": 5e-4,
        "batch": 4,
        "output": "student",
    },
    "base": {"batch": 8},
}


def pretrain_config(name: str = "tiny", *, channels: int = 1, **changes: Any) -> PretrainConfig:
    """The configuration of a preset.

    Args:
        changes: fields of `PretrainConfig` to set otherwise.
    """
    backbone = preset(name, channels=channels)
    return PretrainConfig(**({"backbone": backbone} | _BY_PRESET[name] | changes))


# A CPU takes as long for a volume in a batch of many; a GPU does not.
GPU_BATCH = {"tiny": 32, "small": 16}
# With batches of 24 and more the two consistencies live on thanks to it; with 2 they do not (docs/benchmarks.md).
SPREAD, LEAST_SPREAD = 0.1, 16


def planned_config(
    name: str, device: str, settings: Mapping[str, Any], *, channels: int = 1, seed: int = 0
) -> PretrainConfig:
    """The configuration of a preset for a kind of device, with other values for some fields (`settings`)."""
    batch = {"batch": GPU_BATCH[name]} if device == "cuda" and name in GPU_BATCH else {}
    config = pretrain_config(name, channels=channels, seed=seed).changed(batch | dict(settings))
    planned = {"spread": SPREAD if config.batch >= LEAST_SPREAD else 0.0} | dict(settings.get("weights", {}))
    return config.changed({"weights": planned})
