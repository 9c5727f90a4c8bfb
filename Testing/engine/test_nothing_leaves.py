"""Nothing leaves the computer, and nothing of a patient enters what is shared.

One child process does every job on scans with patients' names in file names, headers and DICOM tags, in a long path
with spaces and other alphabets, while every use of the network is recorded and refused.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import SimpleITK as sitk
from PIL import Image

import glmae

ENGINE = Path(glmae.__file__).parents[1]
# Windows allows 260 characters in all by default.
LONG = ("Klinik für Radiologie – 放射線科 №7", "Größe μ (сканы) 2026", "a b  c")
WORDS = (
    "Musterfrau",
    "Erika",
    "DOE",
    "JANE",
    "778899",
    "19640812",
    "1.2.826.0.1.3680043.2.1125",
    "Radiologie",
    "ursula",
)

# Runs before anything else in every Python process of the test. Also when a library swallows the error, it is recorded.
GUARD = """
import os, sys
def _guard(event, arguments):
    if event.startswith(("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostby",
                         "urllib.", "http.client", "ftplib", "smtplib")):
        with open(os.environ["NETWORK_LOG"], "a", encoding="utf-8") as log:
            log.write(event + repr(arguments)[:200] + chr(10))
        raise OSError("the network is not to be used")
sys.addaudithook(_guard)
"""

JOBS = """
import json, sys
from pathlib import Path
from glmae.cli import main
root = Path(sys.argv[1])
def run(*words):
    status = main([str(word) for word in words] + ["--events"])
    assert status == 0, (status, words)
run("pretrain", "--images", root / "more", "--out", root / "backbone", "--steps", 1, "--device", "cpu")
run("finetune", "--images", root / "images", "--labels", root / "labels",
    "--backbone", root / "backbone", "--steps", 2, "--device", "cpu",
    "--setting", "start_steps=20", "--setting", "start_crops=1", "--setting", "crop=[24,32,24]",
    "--out", root / "model")
run("segment", "--model", root / "model", "--images", root / "more", "--out", root / "results", "--device", "cpu")
run("evaluate", "--predictions", root / "results", "--labels", root / "truth", "--out", root / "report.json")
"""


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labeled NIfTI files and a DICOM series, all with patients' names wherever a scanner puts them."""
    samples = ENGINE / "Resources" / "SampleScans"
    root = tmp_path_factory.mktemp("clinic").joinpath(*LONG)
    for folder in ("images", "labels", "more", "truth"):
        (root / folder).mkdir(parents=True)
    names = {"hippocampus_039": "DOE_JANE_19640812", "hippocampus_207": "Musterfrau Erika 778899"}
    for source, name in names.items():
        image = sitk.ReadImage(str(samples / "images" / f"{source}.nii.gz"))
        image.SetMetaData("descrip", f"{name} 19640812")
        image.SetMetaData("aux_file", "ursula")
        sitk.WriteImage(image, str(root / "images" / f"{name}.nii.gz"))
        shutil.copy(samples / "labels" / f"{source}.nii.gz", root / "labels" / f"{name}.nii.gz")
    for folder in ("labels", "truth"):
        shutil.copy(samples / "labels" / "classes.json", root / folder)
    scan = sitk.ReadImage(str(samples / "images" / "hippocampus_003.nii.gz"))
    write_series(root / "more" / "DOE JANE 778899", sitk.Cast(scan, sitk.sitkInt16))
    shutil.copy(samples / "labels" / "hippocampus_003.nii.gz", root / "truth" / "DOE JANE 778899.nii.gz")
    return root


def write_series(folder: Path, image: sitk.Image) -> None:
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    study = "1.2.826.0.1.3680043.2.1125.1"
    for k in range(image.GetSize()[2]):
        piece = image[:, :, k]
        tags = {
            "0010|0010": "Musterfrau^Erika",
            "0010|0020": "778899",
            "0010|0030": "19640812",
            "0008|0050": "778899",
            "0008|0060": "MR",
            "0020|000d": study,
            "0020|000e": f"{study}.1",
            "0008|0018": f"{study}.1.{k + 1}",
            "0020|0013": str(k + 1),
            "0020|0032": "\\".join(f"{x:.6f}" for x in image.TransformIndexToPhysicalPoint((0, 0, k))),
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|0030": "1\\1",
            "0018|0050": "1",
        }
        for key, value in tags.items():
            piece.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"ursula{k:04d}"))
        writer.Execute(piece)


def guarded(folder: Path, code: str, *arguments: object) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run `code` with the network refused; what was tried all the same."""
    (folder / "sitecustomize.py").write_text(GUARD, encoding="utf-8")
    log = folder / "network.txt"
    log.write_text("", encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(folder), str(ENGINE))),
        "PYTHONIOENCODING": "utf-8",
        "NETWORK_LOG": str(log),
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        check=False,
    )
    return done, log.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def jobs(clinic: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], str]:
    return guarded(tmp_path_factory.mktemp("guard"), JOBS, clinic)


def test_the_guard_works(tmp_path: Path) -> None:
    code = (
        "import urllib.request\n"
        "try: urllib.request.urlopen('http://127.0.0.1:9/')\n"
        "except OSError: pass\n"
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import socket; socket.create_connection((\"127.0.0.1\", 9))'])\n"
    )
    _done, tried = guarded(tmp_path, code)
    assert "urllib.Request" in tried
    assert "socket.getaddrinfo" in tried or "socket.connect" in tried  # of the child's child


def test_every_job_works_without_a_network_in_a_path_with_other_alphabets(
    jobs: tuple[subprocess.CompletedProcess[str], str], clinic: Path
) -> None:
    done, tried = jobs
    assert done.returncode == 0, done.stderr
    assert tried == ""
    finished = [json.loads(line)["job"] for line in done.stdout.splitlines() if '"finished"' in line]
    assert finished == ["pretrain", "finetune", "segment", "evaluate"]
    assert (clinic / "results" / "DOE JANE 778899.seg.nrrd").is_file()
    report = json.loads((clinic / "report.json").read_text(encoding="utf-8"))
    assert [row["case"] for row in report["cases"]] == ["DOE JANE 778899"] * 2


def texts_of(file: Path) -> str:
    """What is text in a file: the numbers behind a header could spell anything by chance."""
    content = file.read_bytes()
    if file.suffix == ".safetensors":
        content = content[: 8 + int.from_bytes(content[:8], "little")]
    elif file.suffix == ".nrrd":
        content = content[: content.index(b"\n\n")]
    elif file.suffix == ".png":
        with Image.open(file) as picture:
            picture.load()  # text may come after the pixels
            content = repr((picture.info, picture.private_chunks)).encode()
    return content.decode("latin-1") + content.decode("utf-8", errors="ignore") + content.decode("utf-16", "ignore")


@pytest.mark.parametrize("folder", ["model", "backbone"])
def test_what_is_shared_names_no_patient(
    jobs: tuple[subprocess.CompletedProcess[str], str], clinic: Path, folder: str
) -> None:
    files = [file for file in (clinic / folder).rglob("*") if file.is_file()]
    assert {"model.json", "weights.safetensors"} <= {file.name for file in files}
    for file in files:
        text = texts_of(file).lower()
        assert [word for word in WORDS if re.search(rf"\b{re.escape(word.lower())}\b", text)] == [], file.name
        assert str(Path.home()).lower() not in text
    card = json.loads((clinic / folder / "model.json").read_text(encoding="utf-8"))
    if folder == "model":
        assert [entry["alias"] for entry in card["training_cases"]] == ["case-01", "case-02"]


def test_results_carry_nothing_of_the_patient(jobs: tuple[subprocess.CompletedProcess[str], str], clinic: Path) -> None:
    """The file has its scan's name, which the user gave; the rest is geometry, voxels and classes."""
    text = texts_of(clinic / "results" / "DOE JANE 778899.seg.nrrd").lower()
    assert "hippocampus anterior" in text
    assert [word for word in WORDS if word.lower() in text] == []
