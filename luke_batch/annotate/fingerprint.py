"""The fingerprint: twelve characters that change whenever results would.

It is a hash of canonical JSON (`describe`) that holds, as far as they change results: the settings, the
content of every checkpoint and table in use (as hashes, so that a folder may move), the contract's version,
the annotators' own versions and those of the text libraries (ICU's and Python's Unicode data among them). It
does not hold where and how fast the work is done (actors, CPUs, GPUs, device, batch size), nor how the output
is cut and judged. `engine` is not in it, either: engines are equal by contract, which tests hold them to, as
they are for the versions of torch and transformers.

A setting counts unless it is listed here as one that does not; a test asks for this decision for every field.
"""

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from importlib.metadata import version
from typing import cast

from luke_batch.base.contracts import load_contract
from luke_batch.config import HeadConfig, JobConfig
from luke_batch.text import spans, words
from luke_batch.text.names import aliases, gazetteer
from luke_batch.text.sentences import breaks, segmenter

HEAD_VERSIONS = {
    "inputs": 1,
    "ner": 4,
    "types": 2,
    "relations": 1,
    "links": 1,
    "embeddings": 1,
    "sequence": 1,
    "tokens": 1,
    "qa": 1,
    "choice": 1,
    "cloze": 1,
}
"""Raised by hand with every change of code that changes results; the text stages keep their own beside their
code.
"""

GAZETTEER_FACT = "gazetteer"
"""Key of the hash of the gazetteer file's bytes."""

ALIASES_FACT = "aliases"
"""Key of the hash of the alias table's bytes."""

_LIBRARIES = ("ahocorasick-rs", "langcodes", "sentencepiece", "sentencex", "tokenizers")
_NEUTRAL_MODEL_SETTINGS = {
    *("path", "weights_hash"),  # the content itself counts
    *("engine", "device", "max_tokens", "actors", "num_cpus", "num_gpus"),
}


def weights_fact(path: str) -> str:
    """Key of the content hash of the checkpoint that the configuration calls `path`."""
    return f"weights:{path}"


def fingerprint(config: JobConfig, facts: Mapping[str, str]) -> str:
    """Twelve hexadecimal characters; `facts` as for `describe`."""
    canonical = json.dumps(describe(config, facts), sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()[:12]


def describe(config: JobConfig, facts: Mapping[str, str]) -> dict[str, object]:
    """Everything that is hashed, for the run manifest.

    `facts` holds what only a look at files tells: `weights_fact(path)` for every checkpoint in use, and
    `GAZETTEER_FACT` where a gazetteer is configured and `ALIASES_FACT` where a head uses the alias table.
    """
    heads = [_head(config, head, facts) for head in config.heads]
    in_use = {"inputs", *(head.head for head in config.heads)}
    return {
        "contract": load_contract("annotations").version,
        "input": config.input.model_dump(mode="json"),
        "segmenter": config.segmenter.model_dump(mode="json"),
        "proposers": _proposers(config, facts),
        "heads": heads,
        "annotators": {name: number for name, number in HEAD_VERSIONS.items() if name in in_use},
        "text": _text_versions(config),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def _text_versions(config: JobConfig) -> dict[str, int | str]:
    """Those of our own text stages, and of the Unicode data under them: Python's and ICU's."""
    versions: dict[str, int | str] = {
        "segmenter": segmenter.VERSION,
        "words": words.VERSION,
        "spans": spans.VERSION,
        "icu": breaks.LIBRARY_VERSION,
        "unicode": unicodedata.unidata_version,
    }
    if config.proposers.gazetteer is not None:
        versions["gazetteer"] = gazetteer.VERSION
    if config.uses_aliases:
        versions["aliases"] = aliases.VERSION
    return versions


def _proposers(config: JobConfig, facts: Mapping[str, str]) -> dict[str, object]:
    files = {"path", "content_hash"}  # the content itself counts
    neutral = {"gazetteer": files, "aliases": files}
    settings = cast("dict[str, object]", config.proposers.model_dump(mode="json", exclude=neutral))
    table = cast("dict[str, object]", settings.pop("aliases"))
    if config.uses_aliases:
        settings["aliases"] = {**table, "content": facts[ALIASES_FACT]}
    if config.proposers.gazetteer is not None:
        table = cast("dict[str, object]", settings["gazetteer"])
        settings["gazetteer"] = {**table, "content": facts[GAZETTEER_FACT]}
    return settings


def _head(config: JobConfig, head: HeadConfig, facts: Mapping[str, str]) -> dict[str, object]:
    model = config.model_of(head)
    settings = model.model_dump(mode="json", exclude=_NEUTRAL_MODEL_SETTINGS)
    return {
        **head.model_dump(mode="json", exclude={"model"}),
        "model": {**settings, "weights": facts[weights_fact(model.path)]},
    }
