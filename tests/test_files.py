"""Files that take their place when they are complete."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dynamiq_async import _files
from dynamiq_async._files import replacing


def put(path: Path, text: str = "new") -> None:
    with replacing(path) as file:
        file.write(text.encode())


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def folder(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a system that can, or cannot, make files without a name."""
    if not request.param:
        monkeypatch.setattr(_files, "_DESCRIPTORS", tmp_path / "none")
    return tmp_path


def test_a_file_is_made_and_replaced(folder: Path) -> None:
    put(folder / "a", "one")
    put(folder / "a", "two")
    assert (folder / "a").read_text() == "two"
    assert names(folder) == ["a"]


def test_what_was_there_stays_when_the_body_fails(folder: Path) -> None:
    put(folder / "a", "one")
    with pytest.raises(ZeroDivisionError), replacing(folder / "a") as file:
        file.write(b"two")
        raise ZeroDivisionError
    assert (folder / "a").read_text() == "one"
    assert names(folder) == ["a"]


def test_until_it_is_complete_it_has_no_name(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as file:
        file.write(b"one")
        file.flush()
        assert names(tmp_path) == []


def test_elsewhere_its_name_cannot_be_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "_DESCRIPTORS", tmp_path / "none")
    found = []
    for _ in range(2):
        with replacing(tmp_path / "a"):
            found += [name for name in names(tmp_path) if name != "a"]
    assert len(set(found)) == 2


def test_a_file_keeps_its_mode(folder: Path) -> None:
    (folder / "a").touch(0o600)
    put(folder / "a")
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o600


def test_a_symbolic_link_stays_one(folder: Path) -> None:
    (folder / "there").mkdir()
    (folder / "a").symlink_to(folder / "there" / "b")
    for text in ("one", "two"):
        put(folder / "a", text)
    assert (folder / "a").is_symlink()
    assert (folder / "there" / "b").read_text() == "two"
    assert names(folder / "there") == ["b"]


def test_the_other_name_of_a_file_keeps_its_content_in_step(folder: Path) -> None:
    put(folder / "a", "one and more")
    (folder / "b").hardlink_to(folder / "a")
    put(folder / "a", "two")
    assert (folder / "b").read_text() == "two"
    assert names(folder) == ["a", "b"]


@pytest.mark.parametrize("refusing", ["replace", "fchmod", "fchown"])
def test_a_file_that_cannot_be_replaced_gets_the_content(
    tmp_path: Path, refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(16, "busy")

    put(tmp_path / "a", "one and more")
    if refusing == "replace":
        monkeypatch.setattr(Path, "replace", refuse)
    else:
        monkeypatch.setattr(os, refusing, refuse)
    if refusing == "fchown":
        if os.getuid() != 0:
            pytest.skip("only root has files of another owner")
        os.chown(tmp_path / "a", 1234, 1234)
    before = (tmp_path / "a").stat().st_ino
    put(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    assert (tmp_path / "a").stat().st_ino == before
    assert names(tmp_path) == ["a"]


def test_a_device_is_written_as_it_is() -> None:
    put(Path("/dev/null"))
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_folder_that_is_not_there_is_told(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        put(folder / "none" / "a")
