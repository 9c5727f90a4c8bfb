"""The command lines that make the engine's environment, for each kind of computer, as text; nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from GLMAESegmentationLib.engine.command import MODULE_FOLDER, clean_environment
from GLMAESegmentationLib.setup import uv
from GLMAESegmentationLib.setup.computer import Computer, this_computer
from GLMAESegmentationLib.setup.download import Download
from GLMAESegmentationLib.setup.environment import LOCK, TORCH_LOCK, UV_LOCK, EngineEnvironment
from GLMAESegmentationLib.setup.failure_name import name_of_failure
from GLMAESegmentationLib.setup.installation import ending_of

WINDOWS, WINDOWS_NVIDIA = Computer("windows", "x86_64"), Computer("windows", "x86_64", nvidia=True)
LINUX, LINUX_NVIDIA, LINUX_ARM = (
    Computer("linux", "x86_64"),
    Computer("linux", "x86_64", nvidia=True),
    Computer("linux", "aarch64"),
)
APPLE, INTEL_MAC = Computer("macos", "aarch64"), Computer("macos", "x86_64")
ROOT = Path("/data of Jörg/engine")


def of(computer: Computer) -> EngineEnvironment:
    return EngineEnvironment(ROOT, windows=computer.system == "windows")


@pytest.mark.parametrize(
    ("computer", "name"),
    [
        (WINDOWS, "cpython-3.12-windows-x86_64-none"),
        (LINUX, "cpython-3.12-linux-x86_64-gnu"),
        (LINUX_ARM, "cpython-3.12-linux-aarch64-gnu"),
        # Slicer's own pip fetches an uv for Intel's processors, which would take a Python for them.
        (APPLE, "cpython-3.12-macos-aarch64-none"),
    ],
)
def test_python_by_its_whole_name(computer: Computer, name: str) -> None:
    environment = of(computer)
    assert uv.make_environment(environment, computer) == [
        str(environment.uv), "venv", "--python", name, "--managed-python", "--allow-existing", str(ROOT / "env")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("computer", "torch"),
    [
        # The package index has the small build for CPUs, with a hash.
        (WINDOWS, ["--requirement", str(TORCH_LOCK)]),
        # The driver tells uv which CUDA; without one, on Linux, the small build for CPUs is taken.
        (WINDOWS_NVIDIA, ["--torch-backend", "auto"]),
        (LINUX, ["--torch-backend", "auto"]),
        (LINUX_NVIDIA, ["--torch-backend", "auto"]),
        # One build, with Apple's GPU, on the package index, with a hash.
        (APPLE, ["--requirement", str(TORCH_LOCK)]),
    ],
)
def test_packages_by_the_lock(computer: Computer, torch: list[str]) -> None:
    environment = of(computer)
    python = ROOT / ("env/Scripts/python.exe" if computer.system == "windows" else "env/bin/python")
    assert uv.install_packages(environment, computer, uv.Source()) == [
        str(environment.uv), "pip", "install", "--python", str(python),
        "--only-binary", ":all:", "--requirement", str(LOCK), *torch
    ]  # fmt: skip


def test_an_index_of_ones_own_has_pytorch_too() -> None:
    words = uv.install_packages(of(LINUX), LINUX, uv.Source(index="https://packages.example.org"))
    assert "--torch-backend" not in words
    variables = uv.variables(of(LINUX), uv.Source(index="https://packages.example.org"), {}, {})
    assert variables["UV_DEFAULT_INDEX"] == "https://packages.example.org"


def test_a_build_of_pytorch_that_was_chosen_is_taken() -> None:
    for computer in (WINDOWS, LINUX_NVIDIA):
        words = uv.install_packages(of(computer), computer, uv.Source(), torch_backend="cu128")
        assert words[-2:] == ["--torch-backend", "cu128"]


def test_a_folder_of_wheels_needs_no_network() -> None:
    source = uv.Source(Path("/usb"))
    for words in (
        uv.fetch_uv(["python", "-m", "pip"], ROOT / "uv", source),
        uv.install_packages(of(WINDOWS), WINDOWS, source),
    ):
        assert words[-3:] == ["--no-index", "--find-links", str(Path("/usb"))]
    variables = uv.variables(of(WINDOWS), source, {}, {})
    assert (variables["UV_OFFLINE"], variables["UV_PYTHON_CACHE_DIR"]) == ("1", str(Path("/usb/python")))


def test_uv_itself_is_not_installed_into_slicer() -> None:
    words = uv.fetch_uv(["PythonSlicer", "-m", "pip"], ROOT / "uv", uv.Source())
    assert words[:6] == ["PythonSlicer", "-m", "pip", "install", "--target", str(ROOT / "uv")]
    assert words[-3:] == ["--require-hashes", "--requirement", str(UV_LOCK)]


def test_the_systems_proxy_and_certificates_are_passed_on() -> None:
    proxies = {"https": "http://proxy:8080", "http": "http://proxy:8080", "no": "localhost"}
    variables = uv.variables(of(LINUX), uv.Source(), {"https_proxy": "http://mine:1"}, proxies)
    assert variables["https_proxy"] == "http://mine:1"
    assert "HTTPS_PROXY" not in variables
    assert (variables["HTTP_PROXY"], variables["NO_PROXY"]) == ("http://proxy:8080", "localhost")
    assert variables["UV_SYSTEM_CERTS"] == "1"
    assert str(ROOT) in variables["UV_CACHE_DIR"]  # on the same disk as the environment
    assert str(ROOT) in variables["UV_PYTHON_INSTALL_DIR"]


def test_pips_own_settings() -> None:
    listed = ":env:.extra-index-url='file:///b'\nglobal.index-url='https://a/simple'\nglobal.cert='/c.pem'\n"
    assert uv.pip_settings(listed) == {"index": "https://a/simple", "cert": "/c.pem"}
    assert uv.pip_settings("global.extra-index-url='https://b'") == {"index": "", "cert": ""}


def test_an_intel_mac_has_no_pytorch() -> None:
    assert not INTEL_MAC.has_torch
    assert all(computer.has_torch for computer in (WINDOWS, LINUX, LINUX_ARM, APPLE))
    assert LINUX_NVIDIA.disk_bytes > 4 * LINUX.disk_bytes
    assert this_computer().disk_bytes > 1e9


def test_an_apple_processor_is_known_although_slicer_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from GLMAESegmentationLib.setup import computer

    monkeypatch.setattr(computer.sys, "platform", "darwin")
    monkeypatch.setattr(computer.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(computer, "_apple_processor", lambda: True)
    assert this_computer() == APPLE
    monkeypatch.setattr(computer, "_apple_processor", lambda: False)
    assert this_computer() == INTEL_MAC


def test_a_childs_variables_are_clean() -> None:
    given = {
        **dict.fromkeys(
            ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV"), "/rubbish"
        ),
        "PATH": "/bin",
        "DYLD_FRAMEWORK_PATH": "/rubbish",
    }
    clean = clean_environment(given)
    assert "/rubbish" not in clean.values()
    assert (clean["PATH"], clean["PYTHONPATH"]) == ("/bin", str(MODULE_FOLDER))
    assert {clean[name] for name in ("PYTHONSAFEPATH", "PYTHONNOUSERSITE", "PYTHONUTF8")} == {"1"}


def test_progress_by_the_words_of_uv(tmp_path: Path) -> None:
    download = Download(tmp_path)
    download.read("Resolved 27 packages in 366ms")
    assert download.progress() is None
    download.read("Downloading torch (850.0MiB)")
    download.read("Downloading numpy (16.0MiB)")
    download.read(" Downloaded numpy")
    (tmp_path / ".tmpA").mkdir()
    (tmp_path / ".tmpA" / "libtorch.so").write_bytes(bytes(10_000_000))
    assert download.progress() == {
        "package": "torch",
        "done": 16 * 2**20 + 4_000_000,  # unpacked, it is about two and a half times as large as it arrives
        "total": 866 * 2**20,
    }


# What uv and pip printed (shortened), for each cause.
WORDS = {
    "offline": "error: Failed to fetch: `https://pypi.org/simple/tqdm/`\n  cause: client error (Connect)\n  "
    "cause: dns error",
    "proxy": "ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 407 Proxy Authentication'))",
    "no space": "error: Failed to install: numpy\n  cause: No space left on device (os error 28)",
    "wrong hash": "error: Failed to download `tqdm==4.70.1`\n  cause: Hash mismatch for `tqdm==4.70.1`",
    "in use": "error: failed to remove file `C:\\x\\torch_cpu.dll`: Access is denied. (os error 5)",
    "no PyTorch": "error: No solution found when resolving dependencies:\n  cause: Because torch==2.13.0 has no wheels "
    "with a matching platform tag",
    "failed": "error: The archive is broken",
}


@pytest.mark.parametrize("name", WORDS)
def test_what_uv_and_pip_say_is_understood(name: str) -> None:
    found, detail = name_of_failure(WORDS[name], offline=False, proxied=False)
    assert found == name
    ending = ending_of({"name": found, "detail": "1 2" if name == "no space" else detail})
    assert ending.cause.endswith(".")
    assert ending.remedy.endswith(".")


def test_behind_a_proxy() -> None:
    assert name_of_failure(WORDS["offline"], offline=False, proxied=True)[0] == "proxy"
    assert name_of_failure("error: invalid peer certificate: UnknownIssuer", offline=False, proxied=False)[0] == "proxy"
