"""The folder of a run: never somebody else's files, resumable, nothing left after a failure."""

import pytest

from glmae.errors import RequestError, Stopped
from glmae.run_folder import RunFolder

REQUEST = {"seed": 0, "cases": ["a", "b"], "steps": None}


def test_a_failure_before_the_first_checkpoint_leaves_nothing(tmp_path):
    run = RunFolder(tmp_path / "deep" / "out", REQUEST, resume=False)
    assert not (tmp_path / "deep").exists(), "nothing is created before the request was checked"
    run.begin()
    run.abandon()
    assert not (tmp_path / "deep" / "out").exists()


def test_a_failure_after_a_checkpoint_keeps_it(tmp_path):
    run = RunFolder(tmp_path / "out", REQUEST, resume=False)
    run.begin()
    run.checkpoint.write_bytes(b"state")
    run.abandon()
    assert run.checkpoint.exists()
    with pytest.raises(RequestError, match="--resume"):
        RunFolder(tmp_path / "out", REQUEST, resume=False)
    with pytest.raises(RequestError, match="cases, seed"):
        RunFolder(tmp_path / "out", REQUEST | {"seed": 1, "cases": ["a"]}, resume=True)
    assert not RunFolder(tmp_path / "out", REQUEST, resume=True).finished


def test_a_run_of_an_earlier_version_goes_on(tmp_path):
    run = RunFolder(tmp_path, {"labelled": {"a": "0f"}}, resume=False)
    run.begin()
    stored = run.unfinished / "request.json"
    stored.write_text(stored.read_text(encoding="utf-8").replace("labeled", "labelled"), encoding="utf-8")
    RunFolder(tmp_path, {"labeled": {"a": "0f"}}, resume=True)
    with pytest.raises(RequestError, match="labeled"):
        RunFolder(tmp_path, {"labeled": {"a": "1f"}}, resume=True)


def test_a_folder_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RequestError, match="not empty"):
        RunFolder(tmp_path, REQUEST, resume=True)
    with pytest.raises(RequestError, match="is a file"):
        RunFolder(tmp_path / "file", REQUEST, resume=False)


def test_a_finished_run(tmp_path):
    run = RunFolder(tmp_path / "out", REQUEST, resume=False)
    run.begin()
    (tmp_path / "out" / "model.json").write_text("{}", encoding="utf-8")
    run.end()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.json"]
    assert RunFolder(tmp_path / "out", REQUEST, resume=True).finished
    with pytest.raises(RequestError, match="already holds a model"):
        RunFolder(tmp_path / "out", REQUEST, resume=False)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(RequestError, match="could not be written"):
        RunFolder(tmp_path / "file" / "out", REQUEST, resume=False).begin()


def test_a_failure_keeps_the_scores_of_finished_folds_and_the_time_spent(tmp_path):
    run = RunFolder(tmp_path / "out", REQUEST, resume=False)
    assert run.seconds_spent == 0
    run.begin()
    run.note_seconds(12.5)
    (run.unfinished / "cross-validation" / "fold-1").mkdir(parents=True)
    (run.unfinished / "cross-validation" / "fold-1" / "scores.json").write_text("{}", encoding="utf-8")
    run.abandon()
    assert RunFolder(tmp_path / "out", REQUEST, resume=True).seconds_spent == 12.5


def sitting(run: RunFolder, since: float, error: BaseException | None = None) -> float:
    """A block that takes 30 seconds and ends with an error, or makes the model; when the run began."""
    with run.begun(since) as began:
        assert run.unfinished.is_dir()
        if error is not None:
            run.note_seconds(30.0)
            raise error
        (run.out / "model.json").write_text("{}", encoding="utf-8")
    return began


@pytest.mark.parametrize("error", [OSError("disk"), KeyboardInterrupt(), Stopped("stopped")])
def test_a_block_leaves_nothing_after_a_failure_and_all_after_a_stop(tmp_path, error):
    run = RunFolder(tmp_path / "out", REQUEST, resume=False)
    with pytest.raises(type(error)):
        sitting(run, 100.0, error)
    assert (tmp_path / "out").exists() == isinstance(error, Stopped)


def test_a_block_that_made_the_model_ends_the_run_and_sittings_are_added_up(tmp_path):
    with pytest.raises(Stopped):
        sitting(RunFolder(tmp_path / "out", REQUEST, resume=False), 100.0, Stopped("stopped"))
    assert sitting(RunFolder(tmp_path / "out", REQUEST, resume=True), 500.0) == 470.0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.json"]
