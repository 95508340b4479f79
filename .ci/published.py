"""Looks at two builds of what is published: `published.py FOLDER OTHER`, of the same tree."""

import email
import json
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "dynamiq_async"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
METADATA = ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE")
SBOM = "sboms/dynamiq-async.cdx.json"


def same_bytes(folder: Path, other: Path) -> None:
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert [Path(name).suffix for name in names] == [".whl", ".gz"], names
    for name in names:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), f"{name} differs"


def source() -> set[str]:
    """What the package consists of: its modules and the files that they read."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def look_at_wheel(path: Path) -> None:
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        info = f"{'-'.join(path.name.split('-')[:2])}.dist-info"
        assert {"dynamiq_async/py.typed", "dynamiq_async/emulator/app/data/llm.jsonl"} <= names
        assert names == source() | {f"{info}/{name}" for name in (*METADATA, SBOM)}, names
        found = email.message_from_bytes(wheel.read(f"{info}/METADATA"))
        look_at_metadata(found)
        look_at_sbom(wheel.read(f"{info}/{SBOM}").decode(), found["Version"])


def look_at_metadata(found: Message) -> None:
    assert found["Name"] == PROJECT["name"]
    assert found["License-Expression"] == PROJECT["license"]
    assert found["Requires-Python"] == PROJECT["requires-python"]
    assert set(found.get_all("Provides-Extra", [])) == set(PROJECT["optional-dependencies"])


def look_at_sbom(text: str, version: str) -> None:
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert wrong is None, wrong
    found = json.loads(text)
    assert found["metadata"]["component"]["version"] == version
    components = found["components"]
    stated = [told["value"] for one in components for told in one["properties"]]
    extras = PROJECT["optional-dependencies"].values()
    asked = [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]
    assert sorted(map(plain, stated)) == sorted(map(plain, asked))


def plain(requirement: str) -> str:
    """A requirement, however its versions are put in order."""
    return "".join(sorted(requirement.replace(" ", "")))


def look_at_sdist(path: Path) -> None:
    with tarfile.open(path) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert source() <= names
    for wanted in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "tests/conftest.py"):
        assert wanted in names, wanted
    assert not [n for n in names if "__pycache__" in n or n.startswith((".venv", "build/"))]


folder, other = map(Path, sys.argv[1:])
same_bytes(folder, other)
look_at_wheel(next(folder.glob("*.whl")))
look_at_sdist(next(folder.glob("*.tar.gz")))
print("the wheel and the sdist hold what they must, and are built the same twice")
