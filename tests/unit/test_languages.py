"""Language codes: every spelling of a language leads to the same code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luke_batch.text.languages import language_code


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        *(("en", "en"), ("eng", "en"), ("EN", "en"), ("en-US", "en"), ("en_GB.UTF-8", "en")),
        *(("de", "de"), ("deu", "de"), ("ger", "de"), ("de_AT@euro", "de"), (" de ", "de")),
        *(("zh-Hant", "zh"), ("zho", "zh"), ("chi", "zh"), ("cmn", "zh"), ("arb", "ar")),
        *(("aze-Latn", "az"), ("pt_BR", "pt"), ("iw", "he"), ("ckb-Arab", "ckb"), ("bem", "bem")),
        *(
            ("xx", None),
            ("und", None),
            ("mul", None),
            ("", None),
            (None, None),
            ("english", None),
            ("x-mine", None),
        ),
    ],
)
def test_a_language_has_one_code(code: str | None, expected: str | None) -> None:
    """ISO 639-1, -2B, -2T, -3, BCP-47 and POSIX spellings give one code; no language gives None."""
    assert language_code(code) == expected


@given(st.text(max_size=12))
def test_no_code_raises(code: str) -> None:
    """Whatever a language column holds gives a short code of letters, which is its own code, or None."""
    result = language_code(code)
    assert result is None or (result.isalpha() and 2 <= len(result) <= 8)
    assert result is None or language_code(result) == result
