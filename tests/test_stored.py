"""companion.stored: results of long runs, with how they were made."""

import json
import sys

import pytest

import companion
from companion import stored

SECTIONS = sorted(
    f"{path.parent.name}/{path.stem}"
    for path in stored.path_of("bptt/x").parents[1].glob("*/*.json")
)


def test_there_are_stored_results():
    assert {"bptt/remedies", "recurrent/language"} <= set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_a_stored_result_says_how_it_was_made(section):
    result = stored.load(section)
    runs = [result] if "command" in result else list(result.values())  # or one a data set
    assert runs
    for run in runs:
        assert run["command"].startswith("python ") and run["device"] in ("cpu", "cuda", "mps")
        assert {"python", "torch", "numpy", "companion"} <= set(run["versions"])
        assert run["seconds"] > 0 and run["date"] > "2026" and run["threads"] >= 1


def test_what_is_saved_is_loaded(monkeypatch, tmp_path):
    package = tmp_path / "companion"
    (package / "bptt").mkdir(parents=True)
    for folder in (package, package / "bptt"):
        (folder / "__init__.py").touch()
    monkeypatch.setattr(companion, "__file__", str(package / "__init__.py"))
    result = {"values": [0.1, 2], "name": "σ"}
    stored.save("bptt/other", result)
    assert stored.load("bptt/other") == result
    assert json.loads((package / "bptt" / "other.json").read_text("utf-8")) == result
    with pytest.raises(FileNotFoundError, match="'bptt/missing' has no stored result"):
        stored.load("bptt/missing")


@pytest.mark.parametrize("section", ["bptt", "bptt/", "nowhere/word", "bptt/../word", "/word", 3])
def test_a_section_that_is_none_is_named(section):
    with pytest.raises(ValueError, match="section must be a part and a word"):
        stored.load(section)


def test_provenance_names_the_command(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/long.py", "--write"])
    found = stored.provenance(12.34, packages=["scipy"])
    assert found["command"] == "python benchmarks/long.py --write" and found["seconds"] == 12.3
    assert {"scipy", "torch", "numpy", "python", "companion"} == set(found["versions"])
