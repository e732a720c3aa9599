"""Language codes of any standard, reduced to the one that the text libraries know."""

from functools import lru_cache

import langcodes
from langcodes.tag_parser import LanguageTagError

# Codes that say "no language", "many", "unlisted" or "undetermined": nothing to act on.
_NO_LANGUAGE = frozenset({"und", "mul", "mis", "zxx"})


@lru_cache(maxsize=4096)
def normalise(code: str | None) -> str | None:
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
