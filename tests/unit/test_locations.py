"""Where INPUT and OUTPUT may lie."""

from pathlib import Path

import pytest

from luke_batch.config import OutputConfig
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.locations import check_absolute, check_reachable, check_writable
from luke_batch.errors import InputError, OutputError

SUBMITTED = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}


def test_relative_paths_are_refused_in_a_submitted_job() -> None:
    """The driver runs in a copy that is thrown away: outputs would be lost."""
    with pytest.raises(InputError, match=r"INPUT in is relative.*absolute path or an s3://"):
        check_absolute("in", "/out", SUBMITTED)
    with pytest.raises(OutputError, match=r"OUTPUT out/x is relative"):
        check_absolute("s3://bucket/in", "out/x", SUBMITTED)


def test_absolute_paths_and_urls_pass_in_a_submitted_job() -> None:
    """What names the same place everywhere is fine."""
    check_absolute("/in", "s3://bucket/out", SUBMITTED)
    check_absolute("~/in", "file:///out", SUBMITTED)


def test_relative_paths_pass_elsewhere() -> None:
    """On the command line they mean the present folder."""
    check_absolute("in", "out", {})


def test_output_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    """A file in the way is found before any work."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        check_writable(Storage.at(str(tmp_path / "file")))
    with pytest.raises(OutputError, match="is a file"):
        check_writable(Storage.at(str(tmp_path / "file" / "deeper" / "out")))


def test_output_may_not_exist_yet(tmp_path: Path) -> None:
    """It is created with the first commit, and not by the check."""
    check_writable(Storage.at(str(tmp_path / "a" / "b")))
    assert not (tmp_path / "a").exists()


def test_local_folders_on_several_nodes_are_refused(tmp_path: Path) -> None:
    """A worker elsewhere would write into the void, unless the folder is said to be shared."""
    local, remote = Storage.at(str(tmp_path)), Storage("s3://b/p", None, "b/p", is_local=False)
    with pytest.raises(OutputError, match=r"2 nodes.*output.shared=true"):
        check_reachable(remote, local, OutputConfig(), nodes=2)
    with pytest.raises(InputError, match=r"INPUT .* 3 nodes"):
        check_reachable(local, remote, OutputConfig(), nodes=3)
    check_reachable(local, local, OutputConfig(), nodes=1)
    check_reachable(local, local, OutputConfig(shared=True), nodes=2)
    check_reachable(remote, remote, OutputConfig(), nodes=9)
