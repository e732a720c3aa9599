"""Hypothesis strategies for texts as bad as the web's: scripts, marks, emoji, controls, white space."""

from hypothesis import strategies as st

_PIECES = (
    *("Anna", "U.S.", "Dr.", "J. R.", "3. Mai", "O'Neill's", "l'Aquila", "Yahoo!", "x", "42", ".NET", "e.g."),
    *(
        "東京都",
        "古巨基",
        "「はい。」",
        "カタカナ",
        "สวัสดีชาวโลก",
        "नमस्ते।",
        "مرحبا؟",
        "שלום",
        "አዲስ።",
        "བོད།",
        "한국어",
    ),
    *(
        ". ",
        "! ",
        "? ",
        "。",
        "…",
        ", ",
        "; ",
        "(",
        ")",
        '"',
        "“",
        "”",
        "«",
        "»",
        "'",
        "-",
        "\n",
        "\n\n",
        "\r\n",
        "\t",
    ),
    *(" ", "\u3000", "\xa0", "\u2029", "\u200b", "\u200f", "\ufeff", "\x00", "\xad", "\f", "\x85"),
    *(
        "😀",
        "👨\u200d👩\u200d👧",
        "🇩🇪",
        "e\u0301",
        "\u0301",
        "\u0600",
        "ไทยำ",
        "\u1100\u1161",
        "か\u3099",
        "𝔘",
        "ẞ",
        "İ",
        "ﬁ",
    ),
)

pieced = st.lists(st.sampled_from(_PIECES), max_size=30).map("".join)
"""Texts that look like sentences at times."""

any_text = pieced | st.text(max_size=60)
"""Any text at all, without lone surrogates as Parquet has none."""

languages = st.sampled_from([None, "en", "deu", "fr", "tr", "fi", "ja", "zh-Hant", "th", "ar", "hi", "xx-nonsense"])
