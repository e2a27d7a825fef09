"""Packaging: what a user needs is in the wheel, and foreign packages of our names are reported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ("core", "tasks", "flows", "understudy")


def test_no_module_has_a_name_of_the_standard_library() -> None:
    """A folder of ours that ends up on the path must not hide one of Python's own modules."""
    names = {p.stem for package in PACKAGES for p in (REPO / package).iterdir()} | set(PACKAGES)
    assert names & sys.stdlib_module_names == set()


def test_locks_hold_versions_and_no_address() -> None:
    for path in [*REPO.glob("requirements*"), *(REPO / "tests/interop").glob("requirements*")]:
        lines = path.read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith((" ", "#"))]
        assert pins
        assert [p for p in pins if not re.match(r"^[A-Za-z0-9_.\-\[\]]+==[^ ]+( ;.*)?( \\)?$", p)] == []
        assert not re.search(r"https?://|--index|--find-links", "\n".join(lines))


INSTALLABLE = {"understudy-distill", "uv", "."}
"""Every name that a message or a document may tell anybody to install."""
_INSTALL = re.compile(r"\b(?:pip3?|pipx|uv tool|conda)\s+install\b|\b(?:uv|poetry) add\b")
_FILE_OPTION = re.compile(
    r"(?:-r|-c|--requirement|--constraint|--python|--prefix|--find-links|--target)\s+\S+"
)


def installs(text: str) -> list[str]:
    """The first name after each install command in a text, without extras and version."""
    found = []
    for match in _INSTALL.finditer(text):
        command = re.split(r'[`\n;|&)]|" ', text[match.end() :], maxsplit=1)[0]
        words = re.sub(r"['\"]", " ", _FILE_OPTION.sub("", command)).split()
        names = [re.split(r"[\[=<>~!@{\\]", word)[0].rstrip(",:") for word in words if word[0] not in "-\\"]
        found += names[:1]
    return found


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("run `pip install 'understudy-distill[local]'`", ["understudy-distill"]),
        ("install it with: pip install --no-deps stranger", ["stranger"]),
        ("pip install understudy[local]", ["understudy"]),
        ("uv pip install --prefix /opt/x tinker==1", ["tinker"]),
        ("conda install torch", ["torch"]),
        ("pip install -r requirements.txt", []),
    ],
)
def test_names_after_install_commands_are_found(text: str, names: list[str]) -> None:
    assert installs(text) == names


def test_nobody_is_told_to_install_a_name_that_is_not_ours() -> None:
    """`understudy` on the package index is a stranger's, and a misspelled name may be one too."""
    kinds = {".py", ".md", ".yaml", ".toml", ".j2"}
    folders = [
        REPO / name
        for name in ("understudy", "core", "tasks", "flows", "docker", "configs", "prompts", "tests")
    ]
    files = [*REPO.glob("*.md"), *(p for folder in folders for p in folder.rglob("*") if p.suffix in kinds)]
    strange = {
        f"{path.relative_to(REPO)}: {name}"
        for path in files
        if path != Path(__file__).resolve()
        for name in installs(path.read_text(encoding="utf-8"))
        if name not in INSTALLABLE
    }
    assert len(files) > 300
    assert strange == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked as an installer would."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(REPO)]
    subprocess.run(command, check=True, capture_output=True)
    site = out / "site"
    zipfile.ZipFile(next(out.glob("*.whl"))).extractall(site)
    return site


def test_the_wheel_holds_the_packages_with_their_templates(wheel: Path) -> None:
    for name in ("report.html.j2", "report.css", "report.js"):
        assert (wheel / "core/report/templates" / name).is_file()
    for name in [*(f"prompts/{p.name}" for p in (REPO / "prompts").iterdir()), "configs/prices.yaml"]:
        assert (wheel / "core/defaults" / name).read_bytes() == (REPO / name).read_bytes()
    top = {p.name for p in wheel.iterdir() if not p.name.endswith(".dist-info")}
    assert top == {"understudy", "core", "tasks", "flows"}
    assert (wheel / "understudy/py.typed").is_file()


def run_from(folder: Path, wheel: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run code with the wheel's packages installed, from a folder that is on the path before them."""
    program = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(wheel)!r}]; {code}"
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", ["core", "tasks"])
def test_from_a_folder_with_its_own_core_the_wheel_says_what_is_wrong(
    wheel: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    found = run_from(tmp_path, wheel, "import flows")
    assert found.returncode == 1
    last = found.stderr.splitlines()[-1]
    assert f"{name!r} is taken from {tmp_path}/{name} and not from {wheel}" in last
    assert "run from another directory, or rename the folder" in last


def test_from_any_other_folder_the_wheel_runs(wheel: Path, tmp_path: Path) -> None:
    found = run_from(tmp_path, wheel, "from flows.cli import main; main(['--help'])")
    assert found.returncode == 0
    assert "understudy" in found.stdout.lower() or "Usage" in found.stdout


def test_what_the_wheels_init_writes_is_planned_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    rows = "".join(f"The parcel with number {i} is late,{i % 2}\n" for i in range(40))
    (tmp_path / "texts.csv").write_text(f"text,label\n{rows}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder, words in (
        (tmp_path, ["init", "texts.csv", "--out", "mine"]),
        (elsewhere, ["plan", "../mine/config.yaml"]),
    ):
        found = run_from(folder, wheel, f"from flows.cli import main; main({words})")
        assert found.returncode == 0, found.stderr
    assert found.stdout.startswith(f"run mine under {tmp_path}/mine/artifacts\n")
    assert list(elsewhere.iterdir()) == []


def test_the_wheels_facade_resolves_every_public_name_and_loads_nothing_heavy(
    wheel: Path, tmp_path: Path
) -> None:
    code = """
import understudy
heavy = {"torch", "prefect", "transformers", "pandas", "pydantic", "numpy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert all(getattr(understudy, name) for name in understudy.__all__)
assert set(understudy.__all__) <= set(dir(understudy))
assert "prefect" not in sys.modules
print(understudy.__file__, understudy.__version__)
"""
    found = run_from(tmp_path, wheel, code)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split()[0] == str(wheel / "understudy/__init__.py")


@pytest.mark.parametrize("package", ["flows", "understudy"])
def test_another_projects_distribution_of_the_same_name_is_named(
    wheel: Path, tmp_path: Path, package: str
) -> None:
    metadata = tmp_path / "understudy-2.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: understudy\nVersion: 2.0\n")
    found = run_from(tmp_path, wheel, f"import {package}")
    assert found.returncode == 1
    assert "the distribution 'understudy' is installed" in found.stderr.splitlines()[-1]
    assert "pip uninstall understudy" in found.stderr.splitlines()[-1]


def test_another_package_of_the_same_name_is_named(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "understudy").mkdir()
    (tmp_path / "understudy/__init__.py").write_text("")
    found = run_from(tmp_path, wheel, "import flows")
    assert found.returncode == 1
    assert "understudy-distill" in found.stderr.splitlines()[-1]


# The split is made without Prefect, so that the plan has a prompt to show and a price to name.
_SPLIT = """
from pathlib import Path
import core
from core.config.loading import load
from core.data.stage import SplitSettings, split
from core.progress import Silent
from core.stage import build
from core.store.objects import Store
print("package", Path(core.__file__).parents[1])
config = load(Path("mine.yaml")).config
build(Store.open(config.run.root), split.call(SplitSettings.of(config)), Silent())
"""
_LIVE = """
data: {path: texts.csv, id_column: id, near_duplicates: {enabled: false}}
teacher: {kind: openai, preset: openai, budget: {usd: 5}}
student: {model: ./model}
"""


@pytest.mark.parametrize(
    "folders",
    [
        pytest.param((), marks=pytest.mark.slow, id="empty"),
        pytest.param(("understudy", "core", "tasks", "flows", "prompts", "configs"), id="full"),
    ],
)
def test_a_live_teacher_is_planned_from_a_folder_of_ones_own(
    wheel: Path, tmp_path: Path, folders: tuple[str, ...]
) -> None:
    """As the installed command runs: its own folder is on the path, the working directory is not."""
    here, script = tmp_path / "project", tmp_path / "bin/understudy"
    for folder in (here / "rules", here / "model", script.parent, *(here / name for name in folders)):
        folder.mkdir(parents=True)
        if folder.name in ("understudy", "core", "tasks", "flows"):
            (folder / "__init__.py").write_text("raise RuntimeError('this is not the package')")
    rows = "".join(f"t{i},text {i},{i % 2}\n" for i in range(40))
    (here / "texts.csv").write_text(f"id,text,label\n{rows}")
    (here / "rules/R1_odd.txt").write_text("R1 Odd numbers.")
    (here / "model/config.json").write_text("{}")
    (here / "model/model.safetensors").write_bytes(b"only its digest is read")
    (here / "mine.yaml").write_text(_LIVE)
    script.write_text(f"{_SPLIT}\nfrom flows.cli import main\nmain(['plan', 'mine.yaml'])\n")
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env |= {"PYTHONPATH": str(wheel), "OPENAI_API_KEY": "not-a-key"}
    found = subprocess.run(
        [sys.executable, str(script)], cwd=here, env=env, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[0] == f"package {wheel}"
    assert re.search(r"^  \$[\d.e-]+ \(\$[\d.e-]+ to \$[\d.e-]+\)$", found.stdout, re.MULTILINE)
    assert "Judge by the rules alone" in found.stdout
