from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

import glmae
from glmae.scans.image import load
from glmae.scans.written_image import write_image

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import SimpleITK as sitk
from glmae.errors import StorageError
from glmae.scans.written_image import write_image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
image = sitk.ReadImage(sys.argv[1], sitk.sitkUInt8)
for limit in sys.argv[3:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), resource.RLIM_INFINITY))
    try:
        write_image(Path(sys.argv[2]), image)
        print("written")
    except StorageError as error:
        print("refused" if sys.argv[2] in str(error) and "free some space" in str(error) else error)
"""


@pytest.mark.parametrize("name", ["out.nii.gz", "out.seg.nrrd"])
def test_written_whole(folder, label, name):
    write_image(folder / name, label)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(load(folder / name)), sitk.GetArrayFromImage(label))


@pytest.mark.skipif(
    sys.platform == "win32", reason="a limit on the size of files, which stands for a full disk, is POSIX"
)
@pytest.mark.parametrize("name", ["out.nii.gz", "out.seg.nrrd"])
def test_full_disk_is_noticed_wherever_it_strikes(folder, label, samples, name):
    """Also in the last buffer, where the libraries report success."""
    path = folder / name
    write_image(path, label)
    size = path.stat().st_size
    path.unlink()
    limits = [0, 100, size // 2, size - 100, size - 8, size - 1, size]
    source = samples / "labels" / "hippocampus_003.nii.gz"
    root = str(Path(glmae.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {root!r})\n{FULL_DISK}", str(source), str(path)]
        + [str(limit) for limit in limits],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["refused"] * (len(limits) - 1) + ["written"]
    assert [entry.name for entry in folder.iterdir()] == [name]
