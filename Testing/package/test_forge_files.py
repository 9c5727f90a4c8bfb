"""What the public forge reads: workflows, issue templates, pre-commit. They cannot be run here, only read."""

from __future__ import annotations

import re

import pytest
from cmake_text import REPOSITORY

FORGE = REPOSITORY / ".github"


def text(path: str) -> str:
    return (REPOSITORY / path).read_text(encoding="utf-8")


def test_tests_run_on_three_systems_and_three_pythons() -> None:
    matrix = text(".github/workflows/tests.yml")
    systems = re.search(r"system: \[(.+)\]", matrix)
    pythons = re.search(r"python: \[(.+)\]", matrix)
    assert systems is not None
    assert pythons is not None
    assert {name.strip().split("-")[0] for name in systems[1].split(",")} == {"ubuntu", "windows", "macos"}
    versions = re.findall(r"3\.\d+", pythons[1])
    low, high = re.findall(r"3, (\d+)", text("development/environment.py"))[:2]
    assert len(versions) == 3
    assert {versions[0], versions[-1]} == {f"3.{low}", f"3.{high}"}


def test_slicer_runs_on_three_systems() -> None:
    assert {"ubuntu", "windows", "macos"} == set(
        re.findall(r"system: (ubuntu|windows|macos)-", text(".github/workflows/slicer.yml"))
    )
    assert "runUnitTest" in text(".github/workflows/slicer.yml")


@pytest.mark.parametrize("workflow", sorted(path.name for path in (FORGE / "workflows").iterdir()))
def test_workflows_may_read_only_and_end(workflow: str) -> None:
    content = text(f".github/workflows/{workflow}")
    assert "permissions:\n  contents: read\n" in content
    assert "timeout-minutes:" in content
    assert "\t" not in content
    # What somebody else wrote into a pull request must not become a command.
    assert "github.event" not in content
    assert "pull_request_target" not in content
    for file in re.findall(r"(?:python|-r) ((?:development|GLMAESegmentation)/\S+)", content):
        assert (REPOSITORY / file).is_file()


def test_a_problem_comes_with_the_set_up_report() -> None:
    problem = text(".github/ISSUE_TEMPLATE/problem.yml")
    assert "glmae.set_up_check" in problem
    report = problem.split("id: report")[1].split("- type:")[0]
    assert "required: true" in report


def test_pre_commit_uses_the_versions_of_the_project() -> None:
    ruff = re.search(r"(?m)^ruff==(\S+)$", text("constraints.txt"))
    assert ruff is not None
    assert set(re.findall(r"ruff==([\d.]+)", text(".pre-commit-config.yaml"))) == {ruff[1]}


def test_pre_commit_lets_the_weights_in_and_little_more() -> None:
    limit = re.search(r"--maxkb=(\d+)", text(".pre-commit-config.yaml"))
    assert limit is not None
    assert 12e6 <= 1024 * int(limit[1]) < 12.5e6


def test_it_is_said_that_workflows_were_not_run() -> None:
    assert "not been run on the public forge" in text("CONTRIBUTING.md")
