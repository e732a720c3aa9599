"""The fingerprint: twelve characters that change whenever results would.

It is a hash of canonical JSON (`describe`) that holds, as far as they change results: the settings, the
content of every checkpoint and table in use (as hashes, so that a folder may move), the contract's version,
the annotators' own versions and those of the text libraries (ICU's and Python's Unicode data among them). It
does not hold where and how fast the work is done (actors, CPUs, GPUs, device, batch size), nor how the output
is cut and judged. `engine` is not in it, either: engines are equal by contract, which tests hold them to, as
they are for the versions of torch and transformers.

A setting counts unless it is listed here as one that does not, or belongs to what no configured head uses; a test asks
for this decision for every field.
"""

import hashlib
import json
import platform
import unicodedata
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from luke_batch.base.contracts import load_contract
from luke_batch.config.job import JobConfig
from luke_batch.heads.head import HeadConfig
from luke_batch.heads.registry import head_class
from luke_batch.text import segmenter, words
from luke_batch.text.proposers import PROPOSERS, known_proposers

_INPUTS = 1
"""Raised by hand with every change of how windows are built that changes results; heads, proposers and text stages keep
versions of their own beside their code.
"""

GAZETTEER_FACT = "gazetteer"
"""Key of the hash of the gazetteer file's bytes."""

ALIASES_FACT = "aliases"
"""Key of the hash of the alias table's bytes."""

_CONTENT_COUNTS = {"path", "content_hash"}
"""Of a table of names: its content counts itself."""
_LIBRARIES = ("ahocorasick-rs", "langcodes", "sentencepiece", "sentencex", "tokenizers")
_NUMERIC = ("luke-batch", "ray", "torch", "transformers", "numpy", "pyarrow")
"""Libraries that are not in the fingerprint, and must be the same on all nodes of a run."""
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
    `GAZETTEER_FACT` where a head looks for its names and `ALIASES_FACT` where a head uses the alias table.
    """
    kinds = {head.head: head_class(head) for head in config.heads}
    return {
        "contract": load_contract("annotations").version,
        "input": config.input.model_dump(mode="json"),
        "segmenter": config.segmenter.model_dump(mode="json"),
        "proposers": _proposers(config, facts),
        "heads": [_head(config, head, facts) for head in config.heads],
        "annotators": {"inputs": _INPUTS, **{name: head.version for name, head in kinds.items()}},
        "text": _text_versions(),
        "libraries": {name: version(name) for name in _LIBRARIES},
    }


def installed() -> dict[str, str]:
    """What results depend on beside the job, as this machine has it: name -> version.

    Without the part behind a plus: CPUs and GPUs have builds of their own of one torch.
    """
    found = {name: str(each) for name, each in _text_versions().items()}
    found["python"] = ".".join(platform.python_version_tuple()[:2])
    for name in (*_LIBRARIES, *_NUMERIC):
        try:
            found[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            found[name] = "none"
    return found


def _text_versions() -> dict[str, int | str]:
    """Those of our own text stages, and of the Unicode data under them: Python's and ICU's."""
    return {
        "segmenter": segmenter.VERSION,
        "words": words.VERSION,
        "spans": words.SPANS_VERSION,
        "icu": words.LIBRARY_VERSION,
        "unicode": unicodedata.unidata_version,
    }


def _proposers(config: JobConfig, facts: Mapping[str, str]) -> dict[str, object]:
    """Settings, version and content of what is used."""
    described: dict[str, object] = {}
    if not {"all", "auto"}.isdisjoint(config.span_sources):
        described["max_words"] = config.proposers.max_words
    for name, proposer in known_proposers().items():
        settings = config.proposers.of(proposer)
        if settings is None or not (name in config.span_sources or (name == "alias" and config.uses_aliases)):
            continue
        ours = proposer in PROPOSERS
        own = settings.model_dump(mode="json", exclude=_CONTENT_COUNTS if ours else None)
        if name == "alias" and not any(head.reads_candidates for head in config.heads):
            own.pop("min_prior")
        described[name] = {**own, "version": proposer.version}
        if ours:
            described[name] = {**own, "version": proposer.version, "content": facts[proposer.section]}
    return described


def _head(config: JobConfig, head: HeadConfig, facts: Mapping[str, str]) -> dict[str, object]:
    model = config.model_of(head)
    settings = model.model_dump(mode="json", exclude=_NEUTRAL_MODEL_SETTINGS)
    return {
        **head.model_dump(mode="json", exclude={"model"}),
        "model": {**settings, "weights": facts[weights_fact(model.path)]},
    }
