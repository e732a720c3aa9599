"""Readable names of relations that data sets give as Wikidata properties."""

_PROPERTIES = {
    "P569": "date of birth",
    "P570": "date of death",
    "P571": "inception",
    "P576": "dissolved on",
    "P577": "publication date",
    "P580": "start time",
    "P582": "end time",
    "P585": "point in time",
}


def relation_name(label: str) -> str:
    """The name of a Wikidata property; any other label is its own name."""
    return _PROPERTIES.get(label, label)
