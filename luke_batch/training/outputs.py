"""What a head says on annotated rows, and what is right there.

Windows and decoding are those of inference on rows that are one sentence each, without its machinery.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from luke_batch.base.arrays import FloatArray, IntArray
from luke_batch.document.state import Document, Mentions
from luke_batch.heads.consistency import Consistency
from luke_batch.heads.ner import choose
from luke_batch.model.engine.device import multiplies_bfloat16
from luke_batch.model.inputs.windows import InputBuilder, chunks
from luke_batch.training.batches import BoolArray, Example, collate, cut_into_batches
from luke_batch.training.corpus import NO_LABELS, GoldEntity, Row
from luke_batch.training.examples import (
    NO_CONTEXT,
    MarkedExamples,
    MarkedPlace,
    SpanProposer,
    mention_places,
    relation_places,
)
from luke_batch.training.model import MultiTaskModel

_BATCH_TOKENS = 3072


@dataclass(frozen=True, slots=True)
class HeadOutputs:
    """What a head says at n places (accepted spans, gold mentions, or pairs), and what is right there."""

    logits: FloatArray
    """(n, labels)"""
    gold: BoolArray
    """(n, labels)"""
    documents: tuple[str, ...]
    """(n,) ids of the rows."""
    missed: int = 0
    """Gold labels elsewhere: of spans that were not accepted, of places too long to read, of labels that the
    head does not have.
    """
    unread: int = 0
    """Gold mentions and pairs that are not among the places."""

    @classmethod
    def joined(cls, parts: Sequence[HeadOutputs]) -> HeadOutputs:
        """Those of several parts of the rows as one."""
        return cls(
            np.concatenate([part.logits for part in parts]),
            np.concatenate([part.gold for part in parts]),
            tuple(name for part in parts for name in part.documents),
            sum(part.missed for part in parts),
            sum(part.unread for part in parts),
        )

    def part(self, chosen: BoolArray) -> HeadOutputs:
        """Those of the chosen places, (n,), with their share of what was missed."""
        missed = round(self.missed * chosen.mean()) if len(chosen) else self.missed
        names = tuple(name for name, kept in zip(self.documents, chosen.tolist(), strict=True) if kept)
        return HeadOutputs(self.logits[chosen], self.gold[chosen], names, missed)


def ner_outputs(
    model: MultiTaskModel, rows: Sequence[Row], builder: InputBuilder, propose: SpanProposer
) -> HeadOutputs:
    """The accepted spans of each row by flat decoding; spans of unknown label (None) count nowhere."""
    labels = model.specs["ner"].labels
    logits: list[FloatArray] = [np.zeros((0, len(labels)), np.float32)]
    gold: list[BoolArray] = [np.zeros((0, len(labels)), bool)]
    documents: list[str] = []
    missed = 0
    for row, (spans, values) in zip(rows, _span_logits(model, rows, builder, propose), strict=True):
        accepted = choose(spans, values, 0, np.zeros(len(spans), bool), nested=False)
        wanted = {(item.span, item.label) for item in row.entities}
        unsure = {span for span, label in wanted if label is None}
        accepted = accepted[[tuple(span) not in unsure for span in spans[accepted].tolist()]]
        found = map(tuple, spans[accepted].tolist())
        right = np.array([[(span, label) in wanted for label in labels] for span in found], bool)
        gold.append(right.reshape(len(accepted), len(labels)))
        logits.append(values[accepted])
        documents += [row.id] * len(accepted)
        missed += sum(label is not None for _, label in wanted) - int(right.sum())
    return HeadOutputs(np.concatenate(logits), np.concatenate(gold), tuple(documents), missed)


def types_outputs(model: MultiTaskModel, rows: Sequence[Row], builder: InputBuilder) -> HeadOutputs:
    """The types of every gold mention."""
    return _outputs_at(model, "types", mention_places(rows, together=True), builder, 0)


def relations_outputs(
    model: MultiTaskModel, rows: Sequence[Row], builder: InputBuilder, *, given: bool = False
) -> HeadOutputs:
    """The relations of all ordered pairs of a row's entities, or of those pairs that stand in the data."""
    places = relation_places(rows, None, given=given)
    told = {(number, item) for number, row in enumerate(rows) for item in row.relations if item.label not in NO_LABELS}
    # Of a pair whose mentions overlap nothing can be asked.
    unasked = len(told) - sum(len(place.labels) for place in places)
    return _outputs_at(model, "relations", places, builder, unasked)


def joint_relations_outputs(
    model: MultiTaskModel,
    rows: Sequence[Row],
    found: Sequence[Sequence[tuple[int, int, str]]],
    builder: InputBuilder,
    rules: Consistency | None,
) -> HeadOutputs:
    """The relations of all ordered pairs of the mentions (start, end, label) that `ner` has found in each row, right
    where both touch those of the data. What the rules do not allow of a pair by itself has a logit of -30.
    """
    labels = model.specs["relations"].labels
    shown = [
        replace(row, entities=tuple(GoldEntity(*mention) for mention in sorted(set(mentions))), relations=())
        for row, mentions in zip(rows, found, strict=True)
    ]
    parts = [_no_outputs(len(labels))]
    for row, (seen, spans, logits) in zip(rows, joint_logits(model, "relations", shown, builder), strict=True):
        told = {(item.head, item.tail, item.label) for item in row.relations if item.label not in NO_LABELS}
        starts, ends = spans.T
        apart = np.maximum(starts[:, None], starts) >= np.minimum(ends[:, None], ends)
        pairs = np.argwhere(apart).astype(np.int32)
        values = logits[pairs[:, 0], pairs[:, 1]]
        own = [_touched(row, start, end) for start, end in spans.tolist()]
        gold = np.zeros(values.shape, bool)
        for number, (head, tail) in enumerate(pairs.tolist()):
            meant = {label for one, two, label in told if one in own[head] and two in own[tail]}
            gold[number] = [label in meant for label in labels]
        if rules is not None and len(pairs):
            possible = rules.possible(_as_document(seen, spans), pairs)
            values, gold = np.where(possible, values, np.float32(-30)), gold & possible
        parts.append(HeadOutputs(values, gold, (row.id,) * len(pairs), max(0, len(told) - int(gold.sum()))))
    return HeadOutputs.joined(parts)


def _touched(row: Row, start: int, end: int) -> set[int]:
    """Numbers of the row's mentions that share most with the found one: where each of them begins and ends is no matter
    of relations.
    """
    shared = [min(end, item.end) - max(start, item.start) for item in row.entities]
    most = max(shared, default=0)
    return {number for number, size in enumerate(shared) if size == most > 0}


def _no_outputs(labels: int) -> HeadOutputs:
    return HeadOutputs(np.zeros((0, labels), np.float32), np.zeros((0, labels), bool), ())


def _as_document(row: Row, spans: IntArray) -> Document:
    """The row's text as one sentence, with its mentions at `spans`."""
    found = Document(row.text, np.array([[0, len(row.text)]], np.int32))
    found.mentions = Mentions.unlabelled(spans)
    kinds = {item.span: item.label for item in row.entities}
    found.mentions.labels = [kinds[start, end] for start, end in spans.tolist()]
    return found


def joint_logits(
    model: MultiTaskModel, head: str, rows: Sequence[Row], builder: InputBuilder
) -> Iterator[tuple[Row, IntArray, FloatArray]]:
    """Each row with the mentions that its window shows, (n, 2), and their logits: (n, labels), of pairs (n, n, labels).
    A row without any, or too long for a window, has none.
    """
    spec = model.specs[head]
    examples: list[Example] = []
    shown: list[IntArray] = []
    for row in rows:
        spans = np.array(sorted({item.span for item in row.entities}), np.int32).reshape(-1, 2)
        tokens = builder.tokenize(row.text, spans)
        usable = np.flatnonzero(tokens.spans[:, 1] > tokens.spans[:, 0]).astype(np.int32)
        if len(tokens.ids) + 2 > builder.max_tokens:
            usable = usable[:0]
        shown.append(spans[usable])
        if len(usable):
            count = (len(usable),) * (2 if spec.is_joint_pair else 1)
            blank = np.zeros((*count, len(spec.labels)), np.float32) if spec.multi_label else np.zeros(count, np.int64)
            examples.append(Example(builder.mention_window(tokens, NO_CONTEXT, NO_CONTEXT, usable), blank))
    logits = iter(_logits(model, head, examples, builder.tokenizer.pad_id))
    for row, spans in zip(rows, shown, strict=True):
        if len(spans):
            yield row, spans, next(logits)
        else:
            count = (0,) * (2 if spec.is_joint_pair else 1)
            yield row, spans, np.zeros((*count, len(spec.labels)), np.float32)


def _outputs_at(
    model: MultiTaskModel, head: str, places: Sequence[MarkedPlace], builder: InputBuilder, unasked: int
) -> HeadOutputs:
    """`unasked`: gold labels that are at none of the places."""
    spec = model.specs[head]
    found = (_unmarked_logits if spec.joint else _marked_logits)(model, head, places, builder)
    read = [place for place, values in zip(places, found, strict=True) if values is not None]
    shape = (len(read), len(spec.labels))
    right = np.array([[label in place.labels for label in spec.labels] for place in read], bool).reshape(shape)
    return HeadOutputs(
        np.array([values for values in found if values is not None], np.float32).reshape(shape),
        right,
        tuple(place.row.id for place in read),
        unasked + sum(len(place.labels) for place in places) - int(right.sum()),
        len(places) - len(read),
    )


def _marked_logits(
    model: MultiTaskModel, head: str, places: Sequence[MarkedPlace], builder: InputBuilder
) -> list[FloatArray | None]:
    """(labels,) of each place; None where its window has no room or no token."""
    spec = model.specs[head]
    source = MarkedExamples(
        head, places, spec.labels, builder, Counter(), multi_label=spec.multi_label, max_tokens=builder.max_tokens
    )
    windows = [source.window(place) for place in places]
    blank = np.zeros(len(spec.labels), np.float32) if spec.multi_label else np.zeros(1, np.int64)
    examples = [Example(window, blank) for window in windows if window is not None]
    logits = iter(_logits(model, head, examples, builder.tokenizer.pad_id))
    return [None if window is None else next(logits).reshape(-1) for window in windows]


def _unmarked_logits(
    model: MultiTaskModel, head: str, places: Sequence[MarkedPlace], builder: InputBuilder
) -> list[FloatArray | None]:
    """The same from one window a row, in which all of its entities are mentions."""
    rows = {id(place.row): place.row for place in places}
    seen: dict[int, tuple[dict[tuple[int, int], int], FloatArray]] = {}
    for row, spans, logits in joint_logits(model, head, list(rows.values()), builder):
        seen[id(row)] = {(start, end): number for number, (start, end) in enumerate(spans.tolist())}, logits
    found: list[FloatArray | None] = []
    for place in places:
        order, logits = seen[id(place.row)]
        at = [order.get(place.row.entities[entity].span, -1) for entity in place.entities]
        found.append(None if min(at) < 0 else logits[tuple(at)])
    return found


def _span_logits(
    model: MultiTaskModel, rows: Sequence[Row], builder: InputBuilder, propose: SpanProposer
) -> Iterator[tuple[IntArray, FloatArray]]:
    """For each row the spans that its ner head can read, (n, 2), and their logits, (n, labels).

    Windows are those of inference on a text that is one sentence; a row too long for one has no spans.
    """
    examples: list[Example] = []
    owners: list[tuple[int, IntArray]] = []
    for number, row in enumerate(rows):
        spans = propose(row)
        tokens = builder.tokenize(row.text, spans)
        if len(tokens.ids) + 2 > builder.max_tokens:
            continue
        lengths = tokens.spans[:, 1] - tokens.spans[:, 0]
        readable = (lengths > 0) & (lengths <= builder.tokenizer.max_mention_length)
        usable = np.flatnonzero(readable).astype(np.int32)
        for chunk in chunks(len(usable)):
            window = builder.mention_window(tokens, NO_CONTEXT, NO_CONTEXT, usable[chunk])
            examples.append(Example(window, np.zeros(len(usable[chunk]), np.int64)))
            owners.append((number, spans[usable[chunk]]))
    nothing = np.zeros((0, 2), np.int32), np.zeros((0, len(model.specs["ner"].labels)), np.float32)
    gathered = [[nothing] for _ in rows]
    logits = _logits(model, "ner", examples, builder.tokenizer.pad_id)
    for (number, spans), values in zip(owners, logits, strict=True):
        gathered[number].append((spans, values))
    for parts in gathered:
        yield np.concatenate([spans for spans, _ in parts]), np.concatenate([values for _, values in parts])


def _logits(model: MultiTaskModel, name: str, examples: Sequence[Example], pad_id: int) -> list[FloatArray]:
    """The logits of each example, in order: (entities, labels), for pairs (labels,), for joint ones (entities,
    entities, labels).
    """
    model.eval()
    spec = model.specs[name]
    device = next(model.parameters()).device
    bfloat16 = device.type == "cpu" and multiplies_bfloat16()
    found: dict[int, FloatArray] = {}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        for batch in cut_into_batches(examples, _BATCH_TOKENS):
            logits = model(name, collate(batch, pad_id).to(str(device))).float().cpu().numpy()
            for example, values in zip(batch, logits, strict=True):
                count = example.entities
                joint = values[:count, :count] if spec.is_joint_pair else values[:count]
                found[id(example)] = values if spec.feature == "pair" and not spec.joint else joint
    return [found[id(example)] for example in examples]
