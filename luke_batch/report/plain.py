"""Text from documents on a terminal: whatever would steer it is shown instead of obeyed."""

import unicodedata


def plain(text: str, keep: str = "") -> str:
    """`text` with control and bidirectional override characters as their codes; `keep`: those that stay."""
    return "".join(each if each in keep or not _steers(each) else _escape(each) for each in text)


def _steers(character: str) -> bool:
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs") or unicodedata.bidirectional(character) in (
        *("LRE", "RLE", "LRO", "RLO", "PDF"),
        *("LRI", "RLI", "FSI", "PDI"),
    )


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
