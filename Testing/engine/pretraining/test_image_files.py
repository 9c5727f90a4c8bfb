"""Pre-training from image files: lists, damaged scans, and the backbone as a start for fine-tuning."""

import json
import shutil

import pytest
import SimpleITK as sitk
import torch
from safetensors.torch import load_file

from glmae.cli import main
from glmae.errors import RequestError
from glmae.events import recorded
from glmae.pretraining.image_files import pretrain_images
from glmae.segmentation.finetuning import finetune
from glmae.segmentation.model import load_model


@pytest.fixture(scope="module")
def images(tmp_path_factory, request):
    """Two small scans cut out of real ones, one of them with 3 mm slices."""
    sample_scans = request.getfixturevalue("sample_scans")
    folder = tmp_path_factory.mktemp("scans of 2026")
    for name, step in (("hippocampus_003", 1), ("hippocampus_057", 3)):
        scan = sitk.ReadImage(str(sample_scans / "images" / f"{name}.nii.gz"))
        sitk.WriteImage(scan[::1, ::1, ::step], str(folder / f"{name}.mha"))
    return folder


def test_a_list_of_paths_and_a_start_for_fine_tuning(images, few_scans, tmp_path):
    listed = tmp_path / "scans.txt"
    listed.write_text("\n".join(str(path) for path in sorted(images.iterdir())), encoding="utf-8")
    backbone = tmp_path / "backbone"
    assert pretrain_images(images=listed, out=backbone, steps=2, device="cpu") == []
    assert sorted(path.name for path in backbone.iterdir()) == [
        "history.json",
        "model.json",
        "weights.safetensors",
    ]
    card = json.loads((backbone / "model.json").read_text(encoding="utf-8"))
    assert card["kind"] == "backbone"
    assert "hippocampus_003" not in json.dumps(card)

    model = finetune(
        images=few_scans / "images",
        labels=few_scans / "labels",
        out=tmp_path / "model",
        backbone=str(backbone),
        steps=1,
        device="cpu",
        settings={"backbone_rate": 0.0, "weight_decay": 0.0, "crop": (16, 16, 16), "start_steps": 20, "start_crops": 1},
    ).folder
    # With its rate at zero the backbone must come out as it went in.
    pretrained = load_file(backbone / "weights.safetensors")
    network = load_model(model, torch.device("cpu")).network
    for name, tensor in network.backbone.state_dict().items():
        assert torch.equal(tensor, pretrained[name]), name


def test_a_damaged_scan_is_named_and_passed_over(images, tmp_path, capsys):
    folder = tmp_path / "scans"
    shutil.copytree(images, folder)
    (folder / "damaged.nii.gz").write_text("no image", encoding="utf-8")
    words = ["pretrain", "--images", str(folder), "--out", str(tmp_path / "out"), "--steps", "1", "--device", "cpu"]
    assert main(words) == 1
    assert "damaged.nii.gz" in capsys.readouterr().err
    assert (tmp_path / "out" / "model.json").exists()


def test_only_damaged_scans_are_a_wrong_request(tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "damaged.nii.gz").write_text("no image", encoding="utf-8")
    with pytest.raises(RequestError):
        pretrain_images(images=tmp_path / "scans", out=tmp_path / "out", steps=1, device="cpu")
    assert not (tmp_path / "out").exists()


def test_the_same_seed_gives_the_same_backbone_and_a_finished_run_is_kept(images, tmp_path):
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        pretrain_images(images=images, out=tmp_path / name, steps=2, seed=seed, device="cpu")
    first, again, other = (load_file(tmp_path / n / "weights.safetensors") for n in ("first", "again", "other"))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    events: list[dict] = []
    pretrain_images(
        images=images, out=tmp_path / "first", steps=2, seed=1, device="cpu", resume=True, events=recorded(events)
    )
    assert [event["event"] for event in events] == ["finished"]
