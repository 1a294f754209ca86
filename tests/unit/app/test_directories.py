"""Where sessions may start."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.directories import check
from core.errors import DirectoryNotAllowed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "inside").mkdir(parents=True)
    (tmp_path / "root2").mkdir()
    (tmp_path / "root" / "file").touch()
    (tmp_path / "root" / "way-out").symlink_to("/etc")
    (tmp_path / "root" / "loop").symlink_to("loop")
    (tmp_path / "way-in").symlink_to(tmp_path / "root" / "inside")
    return tmp_path / "root"


@pytest.mark.parametrize("path", ["", "inside", "inside/..", "../way-in"])
def test_a_directory_inside_a_root_is_taken(root: Path, path: str) -> None:
    check(f"{root}/{path}", [Path("/elsewhere"), root])


@pytest.mark.parametrize(
    "path", ["..", "../root2", "inside/../..", "way-out", "file", "missing", "loop", "inside/" + "x" * 300]
)
def test_what_is_outside_or_no_directory_is_refused(root: Path, path: str) -> None:
    with pytest.raises(DirectoryNotAllowed):
        check(f"{root}/{path}", [root])


@pytest.mark.parametrize("path", ["inside", "./inside", "~", "", "/"])
def test_only_absolute_paths_below_a_root_mean_something(root: Path, path: str) -> None:
    with pytest.raises(DirectoryNotAllowed):
        check(path, [root])


def test_without_roots_there_is_no_choice(root: Path) -> None:
    with pytest.raises(DirectoryNotAllowed):
        check(str(root), [])


def test_what_lies_on_another_machine_is_left_to_the_worker(tmp_path: Path) -> None:
    check(f"{tmp_path}/unseen/project", [tmp_path / "unseen"])
