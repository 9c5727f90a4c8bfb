"""What a person sees: progress bars with the time left on a terminal, plain lines elsewhere."""

import io
import os
import subprocess
import sys

from glmae.terminal import terminal


class Screen(io.StringIO):
    """Standard error of a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_bar_with_the_time_left_and_then_the_result(monkeypatch, capsys):
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    events = terminal()
    events.progress("finetune", 30, 120, 83.0, loss=0.5)
    events.warning("the label was resampled")
    events.progress("finetune", 120, 120, 0.0)
    events.finished("finetune", message="Model written.")
    text = screen.getvalue()
    assert "25%" in text
    assert "30/120" in text
    assert "01:23 left" in text
    assert "warning: the label was resampled\n" in text
    assert capsys.readouterr().out == "Model written.\n"


def test_no_bar_in_a_file(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    events = terminal()
    events.progress("finetune", 30, 120, 83.0)
    events.failed("RequestError", "the folder is missing")
    assert file.getvalue() == "glmae: error: the folder is missing\n"


def test_a_redirected_output_of_a_code_page_without_these_letters():
    program = "from glmae.terminal import terminal; terminal().finished('segment', message='written to \u6d77\u99ac')"
    environment = os.environ | {"PYTHONIOENCODING": "cp1252", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr.decode("ascii", "replace")
    assert done.stdout.strip() == rb"written to \u6d77\u99ac"
