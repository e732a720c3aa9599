"""Languages: codes of any standard, reduced to the one that the text libraries know; and the language to assume
where none is given, by the main script of the text.
"""

from bisect import bisect_right
from collections import Counter
from functools import lru_cache
from itertools import islice

import langcodes
from langcodes.tag_parser import LanguageTagError

# Codes that say "no language", "many", "unlisted" or "undetermined": nothing to act on.
_NO_LANGUAGE = frozenset({"und", "mul", "mis", "zxx"})

_SAMPLE = 2_000
"""Letters looked at: enough to tell the script, few enough to cost nothing."""

# First code point, last code point, the most written language of that script. Kana stands apart from Han,
# since Japanese mixes the two.
_RANGES = (
    (0x0041, 0x024F, "en"),
    (0x0370, 0x03FF, "el"),
    (0x0400, 0x052F, "ru"),
    (0x0531, 0x058F, "hy"),
    (0x0590, 0x05FF, "he"),
    (0x0600, 0x06FF, "ar"),
    (0x0700, 0x074F, "syr"),
    (0x0780, 0x07BF, "dv"),
    (0x0900, 0x097F, "hi"),
    (0x0980, 0x09FF, "bn"),
    (0x0A00, 0x0A7F, "pa"),
    (0x0A80, 0x0AFF, "gu"),
    (0x0B00, 0x0B7F, "or"),
    (0x0B80, 0x0BFF, "ta"),
    (0x0C00, 0x0C7F, "te"),
    (0x0C80, 0x0CFF, "kn"),
    (0x0D00, 0x0D7F, "ml"),
    (0x0D80, 0x0DFF, "si"),
    (0x0E00, 0x0E7F, "th"),
    (0x0E80, 0x0EFF, "lo"),
    (0x0F00, 0x0FFF, "bo"),
    (0x1000, 0x109F, "my"),
    (0x10A0, 0x10FF, "ka"),
    (0x1100, 0x11FF, "ko"),
    (0x1200, 0x139F, "am"),
    (0x1780, 0x17FF, "km"),
    (0x1E00, 0x1EFF, "en"),
    (0x3041, 0x30FF, "ja"),
    (0x3400, 0x4DBF, "zh"),
    (0x4E00, 0x9FFF, "zh"),
    (0xAC00, 0xD7AF, "ko"),
    (0x20000, 0x3FFFF, "zh"),
)
_STARTS = [first for first, _, _ in _RANGES]


@lru_cache(maxsize=4096)
def language_code(code: str | None) -> str | None:
    """The two-letter code of `code`'s language where one exists, else its three-letter code, else None.

    Takes ISO 639-1, 639-2 (B and T), 639-3, BCP-47 and POSIX locales, in any case: "deu", "ger",
    "de_AT.UTF-8" and "DE" are "de". A language inside a macrolanguage gets the code that corpora use for it:
    "cmn" is "zh", "arb" is "ar". Unknown codes, "und" and private ones are None; nothing is raised.
    """
    tag = (code or "").split(".")[0].split("@")[0].strip()
    try:
        language = langcodes.Language.get(langcodes.standardize_tag(tag, macro=True)).language
    except LanguageTagError:
        return None
    if language is None or language in _NO_LANGUAGE or not language.isalpha():
        return None
    return language if langcodes.Language.make(language=language).is_valid() else None


def main_language(text: str) -> str:
    """The code of the language that the script of `text`'s first letters suggests; "en" without letters."""
    letters = islice((character for character in text if character.isalpha()), _SAMPLE)
    counts = Counter(_language_of(letter) for letter in letters)
    del counts[""]
    if not counts:
        return "en"
    main = counts.most_common(1)[0][0]
    # Chinese has no kana, while the Japanese of names and headlines is mostly Han
    return "ja" if main == "zh" and counts["ja"] * 20 > counts["zh"] else main


def _language_of(letter: str) -> str:
    """The language of the range that holds `letter`, "" outside all ranges."""
    at = bisect_right(_STARTS, ord(letter)) - 1
    return _RANGES[at][2] if at >= 0 and ord(letter) <= _RANGES[at][1] else ""
