"""What is wrong with a configuration, in one line: pydantic's errors as sentences about dotted keys.

Values are never repeated: a path may carry a password.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from luke_batch.config.job import JobConfig
from luke_batch.heads.head import HeadConfig
from luke_batch.heads.registry import known_heads

Location = Sequence[str | int]


def explain(error: ValidationError, tree: Mapping[str, object]) -> str:
    """One sentence for each wrong key of `tree`, joined by semicolons."""
    sentences: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        key = _dotted(detail["loc"], tree, missing=detail["type"] == "missing")
        sentence = _sentence(detail, key)
        known = sentences.get(key)
        # The branches of a union complain one by one about the same key.
        sentences[key] = sentence if known is None else f"{known}, or {sentence.split('` ', 1)[1]}"
    return "; ".join(sentences.values())


def _sentence(detail: ErrorDetails, key: str) -> str:
    context = detail.get("ctx", {})
    match detail["type"]:
        case "extra_forbidden":
            return f"unknown key `{key}`" + _hint(str(detail["loc"][-1]), _names_beside(detail["loc"]))
        case "union_tag_invalid":
            heads = re.findall(r"'([^']*)'", str(context.get("expected_tags")))
            return f"`{key}.head`: unknown head `{context.get('tag')}`" + _hint(str(context.get("tag")), heads)
        case "union_tag_not_found":
            return f"`{key}` needs `head:`; it says which head this is"
        case "missing":
            return f"`{key}` is missing"
        case "model_type" | "model_attributes_type":
            return f"`{key}` should be a section: keys and values of its own"
        case _:
            message = detail["msg"].removeprefix("Input ").removeprefix("Value error, ")
            return f"`{key}` {message[0].lower()}{message[1:]}"


def _hint(name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if nearest:
        return f"; did you mean `{nearest[0]}`?"
    return f"; known here: {', '.join(names)}" if names else ""


def _dotted(location: Location, tree: object, *, missing: bool) -> str:
    """The key that `location` means in `tree`: pydantic puts names of union branches between the keys."""
    keys: list[str] = []
    node = tree
    for part in location:
        if isinstance(node, dict) and part in node:
            node = cast(dict[object, object], node)[part]
        elif isinstance(node, list) and isinstance(part, int):
            node = cast(list[object], node)[part]
        else:
            continue
        keys.append(str(part))
    return ".".join([*keys, str(location[-1])] if missing else keys)


def _names_beside(location: Location) -> set[str]:
    """The names that are legal where the last part of `location` stands."""
    sections: list[type[BaseModel]] = [JobConfig]
    for part in location[:-1]:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        if fields:
            sections = [found for field in fields for found in _sections_in(field.annotation)]
        else:
            # A name or index inside a mapping or list changes nothing; a head's name picks its section.
            tagged = [each for each in sections if _head_of(each) == part]
            sections = tagged or sections
    return {name for section in sections for name in section.model_fields}


def _head_of(section: type[BaseModel]) -> object:
    field = section.model_fields.get("head")
    return None if field is None else field.default


def _sections_in(annotation: object) -> Iterator[type[BaseModel]]:
    if annotation is HeadConfig:
        yield from (head.settings for head in known_heads().values())
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections_in(argument)
