"""Code, docs and panel are in United States English."""

from __future__ import annotations

import re

from cmake_text import REPOSITORY
from tracked import tracked_files

KINDS = {".py", ".md", ".ui", ".txt", ".toml", ".yml", ".cmake", ".s4ext", ".sh"}
BRITISH = re.compile(
    r"labell|modell[ei]|cancell|travell|signall|colour|honour|favour|behaviour|neighbour|tumour|mould|centre|metre|fibre|"
    r"licence|defence|catalogue|analyse[ds]?$|learnt|spelt|whilst|judgement|artefact|sceptic|haem|anaes|paed|oedema|"
    r"oesoph|foetal|^grey|programme$|ageing|.(?:al|an|ar|at|el|er|gn|im|in|it|iv|or|id|dom)is(?:e[ds]?|ing|ation)"
)
# Names that stand in files, whoever wrote them, and what reads them.
FORMER = {
    *("centre", "labelled", "unlabelled", "neighbourhood", "normalisation", "normalise", "millimetre", "millimetres"),
}
READERS = {
    *("CHANGELOG.md", "json_record.py", "scene_cases.py", "file_content.py", "test_json_record.py"),
    *("test_checkpoint.py", "test_run_folder.py", "test_class_file.py", "test_label_check_panel.py"),
}


def test_united_states_english() -> None:
    texts = [path for path in tracked_files() if path.suffix in KINDS and path.name != "test_spelling.py"]
    assert len(texts) > 300
    found = {}
    for path in texts:
        words = {word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", path.read_text(encoding="utf-8"))}
        if british := {word for word in words if BRITISH.search(word)} - (FORMER if path.name in READERS else set()):
            found[path.relative_to(REPOSITORY).as_posix()] = british
    assert found == {}
