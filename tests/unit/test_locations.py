"""Where INPUT and OUTPUT may lie."""

from pathlib import Path
from typing import Any

import pytest

from luke_batch.base.errors import ConfigError, InputError, OutputError
from luke_batch.config import JobConfig, OutputConfig
from luke_batch.corpus.access import check_writable
from luke_batch.corpus.storage import Storage
from luke_batch.distributed.planning import with_pinned_tables
from luke_batch.distributed.preflight import (
    _check_reachable,
    check_absolute,
)

SUBMITTED = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
RELATIVE = JobConfig.model_validate(
    {"models": {"main": {"path": "./model"}}, "proposers": {"gazetteer": {"path": "names.csv"}}}
)


def test_relative_paths_are_refused_in_a_submitted_job() -> None:
    """The driver runs in a copy that is thrown away: outputs would be lost."""
    with pytest.raises(InputError, match=r"INPUT in is relative.*absolute path or an s3://"):
        check_absolute("in", "/out", JobConfig(), SUBMITTED)
    with pytest.raises(OutputError, match=r"OUTPUT out/x is relative"):
        check_absolute("s3://bucket/in", "out/x", JobConfig(), SUBMITTED)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"models": {"main": {"path": "./model"}}}, r"models.main.path \./model is relative"),
        ({"models": {"main": {"path": "model"}}}, "models.main.path model is relative"),
        ({"models": {"main": {"path": "folders/model"}}}, "models.main.path folders/model is relative"),
        (
            {"heads": [{"head": "ner", "model": "../model"}]},
            r"models\.\.\./model.path \.\./model is relative",
        ),
        ({"proposers": {"gazetteer": {"path": "names.csv"}}}, "gazetteer.path names.csv is relative"),
    ],
)
def test_relative_tables_and_models_are_refused_in_a_submitted_job(
    settings: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their workers would look for them in the copy as well."""
    (tmp_path / "folders" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        check_absolute("/in", "/out", JobConfig.model_validate(settings), SUBMITTED)


@pytest.mark.parametrize(
    "settings",
    [
        {"models": {"main": {"path": "studio-ousia/luke-base@main"}}},
        {"models": {"main": {"path": "/models/mine"}, "unused": {"path": "./gone"}}},
        {"models": {"main": {"path": "s3://bucket/model"}}},
        {"proposers": {"gazetteer": {"path": "s3://bucket/names.csv"}}},
        {"proposers": {"gazetteer": {"path": "~/names.csv"}}},
    ],
)
def test_other_tables_and_models_pass_in_a_submitted_job(settings: dict[str, Any]) -> None:
    """Hub ids, URLs and absolute folders; a model that no head uses does not count."""
    check_absolute("/in", "/out", JobConfig.model_validate(settings), SUBMITTED)


def test_a_relative_names_table_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers have another working directory; all else stays as it is."""
    monkeypatch.chdir(tmp_path)
    fixed = with_pinned_tables(RELATIVE, {"gazetteer": "abc"}).proposers.gazetteer
    assert fixed is not None
    assert (fixed.path, fixed.content_hash) == (str(tmp_path / "names.csv"), "abc")
    for path in ("/names.csv", "s3://bucket/names.csv"):
        config, pinned = (
            JobConfig.model_validate({"proposers": {"gazetteer": {"path": path, "content_hash": content}}})
            for content in (None, "abc")
        )
        assert with_pinned_tables(config, {"gazetteer": "abc"}) == pinned
    assert with_pinned_tables(JobConfig(), {}) == JobConfig()


def test_absolute_paths_and_urls_pass_in_a_submitted_job() -> None:
    """What names the same place everywhere is fine."""
    check_absolute("/in", "s3://bucket/out", JobConfig(), SUBMITTED)
    check_absolute("~/in", "file:///out", JobConfig(), SUBMITTED)


def test_relative_paths_pass_elsewhere() -> None:
    """On the command line they mean the present folder."""
    check_absolute("in", "out", RELATIVE, {})


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
    local, remote = str(tmp_path), "s3://b/p"
    with pytest.raises(OutputError, match=r"2 nodes.*output.shared=true"):
        _check_reachable(remote, local, JobConfig(), nodes=2)
    with pytest.raises(InputError, match=r"INPUT .* 3 nodes"):
        _check_reachable(local, remote, JobConfig(), nodes=3)
    _check_reachable(local, local, JobConfig(), nodes=1)
    _check_reachable(local, local, JobConfig(output=OutputConfig(shared=True)), nodes=2)
    _check_reachable(remote, remote, JobConfig(), nodes=9)
