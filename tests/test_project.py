"""The project's own files agree with each other: versions, ranges, commands, contents, imports."""

import ast
import doctest
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name as canonical

import companion

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ["3.11", "3.12", "3.13"]
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
WORDS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "book/running.md", ".ci/run")]


def name(path):
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def workflow(path):
    found = yaml.safe_load(read(path))
    found["on"] = found.pop(True)  # YAML 1.1 reads "on" as a truth value
    return found


def steps(path):
    return [step for job in workflow(path)["jobs"].values() for step in job["steps"]]


def requirements(*extras):
    lines = PROJECT["dependencies"] + sum((PROJECT["optional-dependencies"][e] for e in extras), [])
    return {canonical(r.name): r for r in map(Requirement, lines)}


def files():
    """What is, or would be, in the repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git repository")
    found = {ROOT / line for line in listed.decode().split("\0") if line}
    return sorted(path for path in found if path.is_file())


# --- versions and ranges -------------------------------------------------------------------------


def test_one_version_everywhere():
    cited = yaml.safe_load(read("CITATION.cff"))["version"]
    assert PROJECT["version"] == companion.__version__ == str(cited)


def test_one_range_of_pythons_everywhere():
    declared = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{n}" for n in range(6, 30) if f"3.{n}" in declared] == PYTHONS
    oldest, newest = (tuple(map(int, PYTHONS[i].split("."))) for i in (0, -1))
    assert f"{oldest} <= sys.version_info[:2] <= {newest} or" in read("Makefile")
    matrix = workflow(".github/workflows/tests.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert matrix["os"] == ["ubuntu", "macos", "windows"]
    lock = ast.parse(read("tools/lock.py")).body
    [value] = [n.value for n in lock if isinstance(n, ast.Assign) and n.targets[0].id == "PYTHONS"]
    assert list(ast.literal_eval(value)) == PYTHONS
    for page in ("README.md", "book/running.md"):
        assert "Python 3.11, 3.12 or 3.13" in read(page)


def test_lock_holds_on_every_machine():
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    odd = [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)]
    assert not odd, "only name==version, without a local version, address, path or marker"
    pins = {canonical(line.split("==")[0]): line.split("==")[1] for line in lines}
    assert len(pins) == len(lines)
    for package, wanted in requirements("book", "test").items():
        assert package in pins, f"{package} has no pin: make lock"
        assert pins[package] in wanted.specifier, f"{package} is pinned outside its range"


def test_conda_agrees_with_pip():
    same = {"matplotlib-base": "matplotlib", "pytorch-cpu": "torch"}
    environment = yaml.safe_load(read("environment.yml"))
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    [by_pip] = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert by_pip == ["-e .[book]"]  # brings whatever conda does not
    listed = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    [python] = [entry for entry in listed if re.match(r"python\b", entry)]
    listed.remove(python)
    # Binder reads one version only, and no range
    assert python.removeprefix("python=") in PYTHONS
    conda = [Requirement(entry) for entry in listed]
    ranges = {same.get(r.name, r.name): r.specifier for r in conda}
    assert ranges.pop("pip") == SpecifierSet()
    needed = requirements()
    # the compiled ones must come from conda: pip's PyTorch on Linux is the one with CUDA
    compiled = {"torch", "numpy", "scipy", "matplotlib", "statsmodels", "gensim", "scikit-learn"}
    assert compiled <= set(ranges) <= set(needed)
    for package, specifier in ranges.items():
        assert specifier == needed[package].specifier, package


# --- workflows and commands ----------------------------------------------------------------------


def validate(schema, *paths):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, *paths]
    settings = os.environ | {"PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, text=True, env=settings)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    "schema", ["vendor.github-workflows", "custom.github-workflows-require-timeout"]
)
def test_workflows_are_valid(schema):
    assert {path.stem for path in WORKFLOWS} == {"tests", "pages", "links", "dependencies"}
    code, said = validate(schema, *WORKFLOWS)
    assert code == 0, said


def test_a_bad_workflow_is_noticed(tmp_path):
    bad = tmp_path / "bad.yml"
    bad.write_text(read(".github/workflows/links.yml").replace("runs-on:", "run-on:"))
    code, said = validate("vendor.github-workflows", bad)
    assert code == 1 and "run-on" in said


def test_citation_is_valid():
    code, said = validate("vendor.citation-file-format", ROOT / "CITATION.cff")
    assert code == 0, said


MORE_RIGHTS = {
    ("pages", "launch"): {"contents": "write"},
    ("pages", "deploy"): {"pages": "write", "id-token": "write"},
}


@pytest.mark.parametrize("path", WORKFLOWS, ids=name)
def test_workflow_has_least_rights(path):
    found = workflow(path)
    assert found["permissions"] == {"contents": "read"}
    assert found["concurrency"]["group"]
    granted = {
        (path.stem, job): more["permissions"]
        for job, more in found["jobs"].items()
        if "permissions" in more
    }
    assert granted.items() <= MORE_RIGHTS.items()
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step["uses"])
        # what an event brings must reach a shell through the environment, never as text
        assert "${{ github." not in step.get("run", "")


def test_pages_get_the_address_of_their_own_repository():
    settings = workflow(".github/workflows/pages.yml")["env"]
    assert settings["UNROLLED_REPOSITORY"] == "${{ github.server_url }}/${{ github.repository }}"
    used = read("book/_ext/unrolled.py")
    assert all(f'"{setting}"' in used for setting in settings)
    said = " ".join(step.get("run", "") for step in steps(".github/workflows/pages.yml"))
    branch = re.search(r'^LAUNCH = "(\w+)"', used, re.MULTILINE)[1]
    assert f"git push --force origin {branch}\n" in said
    assert f"@{branch}" in read("tools/notebooks.py")


def test_only_main_is_published():
    found = workflow(".github/workflows/pages.yml")
    assert "pull_request" in found["on"]  # the book is built and checked before it is merged
    assert found["on"]["push"]["branches"] == ["main"]
    build, *publish = found["jobs"].values()
    [upload] = [s for s in build["steps"] if "upload-pages-artifact" in s.get("uses", "")]
    assert len(publish) == 2
    assert {part.get("if") for part in (upload, *publish)} == {"github.ref == 'refs/heads/main'"}
    # a pull request from a branch of this repository is tested once
    assert workflow(".github/workflows/tests.yml")["on"]["push"]["branches"] == ["main"]


def commands(path):
    """The words meant for a shell: of a page its code, of a workflow its run lines."""
    if path.suffix == ".yml":
        return "\n".join(step["run"] for step in steps(path) if "run" in step)
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
        text = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
        return "\n".join(blocks + re.findall(r"`([^`]+)`", text))
    return text


def missing_commands(text):
    """What a text tells the reader to type or to open and which is not there."""
    targets = re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE)
    for target in re.findall(r"\bmake ([a-z]+)", text):
        if target not in targets:
            yield f"make {target}"
    for page in re.findall(r"\bS=([\w/]+)", text):
        if not any((ROOT / "book" / f"{page}{end}").is_file() for end in (".ipynb", ".md")):
            yield f"S={page}"
    for extras in re.findall(r"\.\[([\w,]+)\]", text):
        yield from (e for e in extras.split(",") if e not in PROJECT["optional-dependencies"])
    for path in re.findall(r"(?:pip install|uv pip)[^\n]* -[cr] (\S+)", text):
        if not (ROOT / path).is_file():
            yield path
    tops = r"(?:book|companion|tests|tools|benchmarks|\.ci|\.github)/"
    files = r"[A-Z_a-z]+\.(?:toml|txt|yml|cff|md)|Makefile|LICENSE[-A-Z]*"
    for path in re.findall(rf"(?<![\w/.-])({tops}[\w./<>-]*|{files})(?![\w/])", text):
        if "<" not in path and not (ROOT / path.rstrip(".")).exists():
            yield path


@pytest.mark.parametrize("path", WORDS + WORKFLOWS, ids=name)
def test_named_commands_and_files_exist(path):
    assert list(missing_commands(commands(path))) == []


def test_missing_commands_are_noticed():
    text = "make bok; make page S=no/page; pip install -c no.cfg -e .[no]; cat tools/no.py no.txt"
    expected = ["make bok", "S=no/page", "no", "no.cfg", "tools/no.py", "no.txt"]
    assert list(missing_commands(text)) == expected


def test_readme_has_the_two_commands():
    said = commands(ROOT / "README.md")
    assert "make book" in said and "make test" in said
    run = re.findall(r"^timeout -k 30s (\d+)m make (\w+)$", read(".ci/run"), re.MULTILINE)
    assert [target for _, target in run] == ["test", "book", "pages"]
    assert sum(int(minutes) + 0.5 for minutes, _ in run) < 60


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_windows_runs_what_make_runs():
    """The lines without make are those of the Makefile."""
    said = "\n".join(step.get("run", "") for step in steps(".github/workflows/tests.yml"))
    outside = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}  # not as a part
    dry = subprocess.run(
        ["make", "-n", "test", "BIN=", "READY="],
        cwd=ROOT, capture_output=True, text=True, env=outside,
    )
    assert dry.returncode == 0, dry.stderr
    for line in dry.stdout.splitlines():
        assert line.replace("OMP_NUM_THREADS=1 ", "") in said
        for only_faster in (r"[A-Z_]+=\w+ ", " -q", r" -n \d+", " --dist loadscope"):
            line = re.sub(only_faster, "", line)
        assert f"| `{line}` |" in read("book/running.md")
    [book] = set(re.findall(r"^ *(jupyter-book .*)$", read("README.md"), re.MULTILINE))
    assert book in said


def test_readme_example():
    [block] = re.findall(r"```python\n(.*?)```", read("README.md"), re.DOTALL)
    example = doctest.DocTestParser().get_doctest(block, {}, "README.md", "README.md", 0)
    result = doctest.DocTestRunner().run(example)
    assert result.attempted >= 5 and result.failed == 0


# --- the repository ------------------------------------------------------------------------------

LARGEST = {".ipynb": 2_000_000, ".txt": 100_000}  # bytes; a notebook holds its figures
KINDS = {
    "", ".py", ".md", ".ipynb", ".toml", ".txt", ".yml", ".cff", ".bib", ".css", ".js", ".svg",
    ".png", ".ico", ".json", ".html", ".gitignore", ".gitattributes",
}  # fmt: skip
ABSOLUTE = re.compile(
    r"(?<![\w.:/<-])(?:/(?:home|Users|root|work|opt|tmp|private)/\w|[A-Z]:\\+Users\\)"
)


@pytest.mark.parametrize("check", ["kind", "size", "paths"])
def test_repository_holds_no_data_and_no_machine(check):
    listed = files()
    assert ROOT / "README.md" in listed
    for path in listed:
        kind = path.suffix or (path.name if path.name.startswith(".git") else "")
        if check == "kind":
            assert kind in KINDS, f"{name(path)}: what kind of file is this?"
        elif check == "size":
            assert path.stat().st_size <= LARGEST.get(kind, 300_000), f"{name(path)} is too large"
        elif path != Path(__file__) and kind not in (".png", ".ico"):
            found = ABSOLUTE.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{name(path)}: {found[0]}... is a path of one machine"


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("/home/me/x", True),
        ('"/opt/x"', True),
        (r"C:\Users\me", True),
        (r"with $X:\mathbb{R}$", False),
        ("https://a.org/home/x", False),
        ("book/opt/x", False),
    ],
)
def test_paths_of_one_machine_are_noticed(text, absolute):
    assert bool(ABSOLUTE.search(text)) == absolute


def test_contents_list_holds_what_exists():
    toc = yaml.safe_load(read("_toc.yml"))
    listed = [toc["root"]]
    for part in toc["parts"]:
        assert part["chapters"], f"{part['caption']} is empty"
        listed += [chapter["file"] for chapter in part["chapters"]]
    assert len(listed) == len(set(listed))
    pages = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for end in ("md", "ipynb")
        for path in ROOT.glob(f"book/**/*.{end}")
        if not any(part.startswith(("_", ".")) for part in path.relative_to(ROOT).parts)
    }
    assert set(listed) == pages


# --- imports -------------------------------------------------------------------------------------

# A part may import parts of its own level and below. `training` and `plots` serve all chapters.
LEVELS = [{"words", "sequences"}, {"recurrent", "bptt", "gated"}, {"applications", "beyond"}]
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
WITNESS = "reference"


def imports(source, module, package=False):
    """Absolute names of all modules that a source imports, those inside functions included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = module.split(".")
            above = here[: len(here) - node.level + package] if node.level else []
            base = above + [node.module] * bool(node.module)
            yield from (".".join([*base, alias.name]) for alias in node.names)


def offences(module, source, package=False):
    """Imports that go the wrong way."""
    part = (module.split(".") + [""])[1]
    for found in imports(source, module, package):
        top, *rest = found.split(".")
        if part == WITNESS:
            inside = top == "companion" and rest[:1] in ([WITNESS], ["_checks"])
            if not (inside or top == "numpy" or top in sys.stdlib_module_names):
                yield f"{module} imports {found}, not NumPy"
        elif top == "companion" and rest:
            if rest[0] == WITNESS:
                yield f"{module} imports the witness"
            elif part == "_checks":
                yield f"{module} imports {found}"
            elif LEVEL.get(rest[0], -1) > LEVEL.get(part, 9):
                yield f"{module} imports {found}, a later part"
        elif top in ("tests", "book", "tools", "benchmarks"):
            yield f"{module} imports {found}"


def test_imports_go_one_way():
    sources = sorted(ROOT.glob("companion/**/*.py"))
    assert len(sources) > 5
    for path in sources:
        package = path.name == "__init__.py"
        parts = (path.parent if package else path.with_suffix("")).relative_to(ROOT).parts
        assert not list(offences(".".join(parts), path.read_text(encoding="utf-8"), package))


@pytest.mark.parametrize(
    ("module", "source", "package"),
    [
        ("companion.reference.rnn", "import torch", False),
        ("companion.reference", "from ..recurrent import RNN", True),
        ("companion.plots", "from . import reference", False),
        ("companion.recurrent.rnn", "def f():\n    from ..reference.rnn import forward", False),
        ("companion.sequences.windows", "from ..recurrent import RNN", False),
        ("companion.recurrent", "from companion.beyond import attention", True),
        ("companion._checks", "from .plots import network", False),
    ],
)
def test_imports_the_wrong_way_are_noticed(module, source, package):
    assert len(list(offences(module, source, package))) == 1


def test_benchmarks_and_tools_do_not_use_the_witness():
    for path in [*ROOT.glob("tools/*.py"), *ROOT.glob("benchmarks/*.py")]:
        found = imports(path.read_text(encoding="utf-8"), path.stem)
        assert not [f for f in found if f.startswith("companion.reference")], name(path)


def test_notebooks_import_companion_alone():
    """A notebook may import any part, but no test, tool or neighbour."""
    for path in ROOT.glob("book/*/*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                source = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", "".join(cell["source"]))
                tops = {found.split(".")[0] for found in imports(source, "notebook")}
                assert not tops & {"tests", "tools", "benchmarks", "book"}, name(path)
