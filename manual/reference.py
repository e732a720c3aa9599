"""References written from the code: configuration, command line, schemas, metrics."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, cast

import typer.main
from typer.cli import get_docs_for_click

from luke_batch.cli import app
from luke_batch.config import JobConfig
from manual.pages import ROOT

Schema = Mapping[str, Any]


def references() -> dict[str, str]:
    """Page -> Markdown."""
    return {
        "reference/configuration.md": configuration(),
        "reference/command-line.md": command_line(),
        "reference/schemas.md": schemas(),
        "reference/metrics.md": metrics(),
    }


def configuration() -> str:
    """Every key of the configuration with type, default and meaning."""
    schema = JobConfig.model_json_schema()
    lines = [
        "# Configuration",
        "",
        "Every key has a default. `luke-batch config schema` prints this as JSON schema.",
        "",
    ]
    lines += _table(schema, schema["$defs"])
    for name, section in sorted(schema["$defs"].items(), key=lambda entry: _title(*entry)):
        lines += ["", f"## {_title(name, section)}", "", _line(section.get("description", "")), ""]
        lines += _table(section, schema["$defs"])
    return "\n".join(lines) + "\n"


def command_line() -> str:
    """Every command with its arguments and options."""
    command = typer.main.get_command(app)
    context = command.context_class(command, info_name="luke-batch")
    # The context is of a class inside of typer, which its own annotations name otherwise.
    return get_docs_for_click(obj=command, ctx=cast("Any", context), name="luke-batch", title="Command line")


def schemas() -> str:
    """The versioned contracts of schemas/."""
    lines = [
        "# Schemas",
        "",
        "The JSON files are in `schemas/` of the checkout and in the wheel (`luke_batch/_schemas`).",
    ]
    for path in sorted((ROOT / "schemas").glob("*.json")):
        contract = json.loads(path.read_text("utf-8"))
        lines += [
            "",
            f"## {path.stem}",
            "",
            _cell(contract.get("about", "")),
            "",
            "| column | type | content |",
            "|---|---|---|",
        ]
        for column in contract["columns"]:
            kind = f"`{_kind(column['type'])}`" if "type" in column else ""
            lines.append(f"| `{column['name']}` | {kind} | {_cell(column.get('about', ''))} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every metric that a run exports."""
    from luke_batch.distributed.metrics import METRICS

    lines = [
        "# Metrics of a run",
        "",
        "| in Prometheus | kind | labels | what it counts |",
        "|---|---|---|---|",
    ]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.exported}` | {metric.kind} | {labels} | {_cell(metric.about)} |")
    return "\n".join(lines) + "\n"


def _title(name: str, section: Schema) -> str:
    """`heads: ner`, `output`, … instead of the class's name."""
    head = section.get("properties", {}).get("head", {}).get("const")
    return f"heads: {head}" if head else name.removesuffix("Config").lower()


def _table(section: Schema, sections: Mapping[str, Schema]) -> Iterator[str]:
    yield "| key | type | default | meaning |"
    yield "|---|---|---|---|"
    for key, entry in section.get("properties", {}).items():
        default = entry.get("default")
        nested = "$ref" in entry or (isinstance(default, dict | list) and len(json.dumps(default)) > 40)
        shown = "" if "default" not in entry or nested else f"`{json.dumps(default, ensure_ascii=False)}`"
        kind, about = _type(entry, sections), entry.get("description", "")
        yield f"| `{key}` | {_cell(kind)} | {_cell(shown)} | {_cell(about)} |"


def _type(entry: Schema, sections: Mapping[str, Schema]) -> str:
    if "$ref" in entry:
        name = entry["$ref"].rpartition("/")[2]
        title = _title(name, sections[name])
        return f"[{title}](#{title.replace(': ', '-').replace(' ', '-')})"
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in entry:
            return ", ".join(dict.fromkeys(_type(one, sections) for one in entry[choice]))
    if entry.get("type") == "array":
        return f"list of {_type(entry.get('items', {}), sections)}"
    if isinstance(entry.get("additionalProperties"), dict):
        return f"by name: {_type(entry['additionalProperties'], sections)}"
    return str(entry.get("type", "any"))


def _kind(kind: object) -> str:
    if isinstance(kind, str):
        return kind
    nested = cast("dict[str, Any]", kind)
    if "list" in nested:
        return f"list<{_kind(nested['list'])}>"
    return "struct<" + ", ".join(f"{name}: {_kind(one)}" for name, one in nested["struct"].items()) + ">"


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    """One line, in which a bar does not end the cell."""
    return _line(text).replace("|", "\\|")
