"""What `luke-batch models list` prints for people."""

from luke_batch.model.files.facts import HeadFacts
from luke_batch.model.files.listing import FOLDER, Catalogue, Description, Published

_LABELS_SHOWN = 12


def listing(catalogue: Catalogue, embedded: Description) -> str:
    """The embedded model and every published checkpoint."""
    heads = ", ".join(
        f"{name} ({len(facts.labels)} labels)" if facts.labels else name
        for name, facts in embedded.heads.items()
        if name != "spans"  # no head of a job: it serves `spans: auto`
    )
    size = f"{embedded.layers} layers of {embedded.hidden_size}, {_count(embedded.words)} word pieces"
    first = [
        f"embedded  {catalogue.licence}; NOTICE names the works that its weights derive from",
        f"  in the package: {heads}",
        f"  {size}, {_count(embedded.titles)} titles",
        "  used without any configuration",
    ]
    entries = ["\n".join(_published(catalogue, model)) for model in catalogue.models]
    last = [
        "Scores are in percent and their authors'; this project has not measured them.",
        "Where the hub has pytorch_model.bin alone: luke-batch models convert ID DST",
        f"Configurations are in {FOLDER}:",
        "  luke-batch annotate INPUT OUTPUT --config FILE [--set models.main.path=DST]",
        "More of one: luke-batch models list MODEL",
    ]
    return "\n\n".join(["\n".join(first), *entries, "\n".join(last)])


def _published(catalogue: Catalogue, model: Published) -> list[str]:
    size = catalogue.sizes[model.size]
    titles = "no titles" if model.lite else f"{_count(size.entities)} entities of 256 numbers"
    lines = [
        f"{model.id}  {catalogue.licence}",
        f"  {model.architecture}, {model.languages}",
        f"  {size.layers} layers of {size.hidden}, {round(size.parameters / 1e6)} M parameters, {titles}",
    ]
    for score in model.scores:
        after = f" after {score.after}" if score.after else ""
        lines.append(f"  {score.task} {score.metric} {score.value}{after} ({score.source})")
    return [*lines, f"  configuration: {model.configuration_file.name}"]


def details(found: Description, snippet: str) -> str:
    """One checkpoint, and the configuration that uses it."""
    entities = "lite: special entries alone" if found.lite else f"{_count(found.titles)} titles"
    rows = {
        "class": ", ".join(found.architectures) or "not told",
        "size": f"{found.layers} layers of {found.hidden_size}, {_count(found.words)} rows of words",
        "tokenizer": found.tokenizer,
        "entities": f"{_count(found.entities)} rows, {entities}",
        "attention": "entity-aware" if found.entity_aware else "not entity-aware",
        "context": found.context or "not told",
        "weights": found.weights,
    }
    lines = [found.path, *(f"  {name + ':':<12}{value}" for name, value in rows.items()), "", "heads"]
    for name, facts in found.heads.items():
        lines.append(f"  {name + ':':<12}{'; '.join(_facts(facts)) or 'no labels'}")
    if found.weights == "pytorch_model.bin":
        lines += ["", f"Its weights are a pickle: luke-batch models convert {found.path} DST"]
    return "\n".join([*lines, "", "configuration", "", snippet.rstrip()])


def _facts(facts: HeadFacts) -> list[str]:
    """Labels, how they exclude one another, and the calibration; nothing for a head without labels."""
    found: list[str] = []
    if facts.labels:
        more = len(facts.labels) - _LABELS_SHOWN
        shown = ", ".join(facts.labels[:_LABELS_SHOWN]) + (f" and {more} more" if more > 0 else "")
        several: dict[bool | None, str] = {
            None: "one or several: not told",
            True: "several at a time",
            False: "one at a time",
        }
        found += [f"{len(facts.labels)} labels: {shown}", several[facts.multi_label]]
    if facts.none_label is not None:
        found.append(f"{facts.none_label} means nothing")
    if facts.temperature != 1:
        found.append(f"calibrated, temperature {facts.temperature:g}")
    if facts.offsets:
        found.append("an offset for each label")
    if facts.prior_weight is not None:
        found.append(f"weight of priors {facts.prior_weight:g}")
    if facts.nil_score is not None:
        found.append(f"score of none {facts.nil_score:g}")
    if facts.threshold is not None:
        found.append(f"threshold {facts.threshold:g}")
    if facts.max_words is not None:
        found.append(f"spans of up to {facts.max_words} words")
    return found


def _count(number: int) -> str:
    return f"{number:,}"
