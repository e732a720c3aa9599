"""The prompt of a document: a template with the subject [X] filled in and one gap for the object [Y]."""

from luke_batch.base.errors import DocumentError
from luke_batch.config import ClozeConfig
from luke_batch.document.state import Document, Source

SUBJECT, OBJECT = "[X]", "[Y]"


def prompt_of(config: ClozeConfig, document: Document) -> tuple[str, str] | None:
    """The text before and after the gap; None where the template, or the subject that it names, is null or
    blank.

    Raises DocumentError where the template has not exactly one [Y].
    """
    template = config.template if config.template_column is None else _text(document, config.template_column)
    if not template:
        return None
    if template.count(OBJECT) != 1:
        raise DocumentError(
            f"the template {template[:80]!r} has {template.count(OBJECT)} objects {OBJECT} instead of one; "
            f"mend it in column {config.template_column}",
            stage="cloze",
        )
    left, _, right = template.partition(OBJECT)
    if SUBJECT not in template:
        return left, right
    subject = document.text.strip() if config.subject_column is None else _text(document, config.subject_column)
    # The object is found first: a subject that spells [Y] is text.
    return (left.replace(SUBJECT, subject), right.replace(SUBJECT, subject)) if subject else None


def candidates_of(config: ClozeConfig, document: Document) -> list[str]:
    """What may fill the gap, without blank and repeated ones."""
    found: Source = list(config.candidates)
    if config.candidates_column is not None:
        found = document.source[config.candidates_column]
    texts = found if isinstance(found, list) else []
    return list(dict.fromkeys(text.strip() for text in texts if text is not None and text.strip()))


def _text(document: Document, column: str) -> str:
    value = document.source[column]
    return value.strip() if isinstance(value, str) else ""
