"""Write the files beside this script: two small tokenizers in the layout of transformers 4, and
inputs.parquet with the inputs that transformers 4.57.6 builds from them. Run it in an environment of its own:

    python -m venv golden-env
    golden-env/bin/pip install transformers==4.57.6 sentencepiece protobuf pyarrow torch
    golden-env/bin/python tests/golden/make_golden.py

The cases are valid in 4.57: no text spells a special token, and the two mentions of a pair never overlap.
"""

# transformers 4.57 is not in the environment that pyright sees.
# pyright: reportArgumentType=false

import io
import json
import random
import re
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import sentencepiece as spm
import transformers
from tokenizers import ByteLevelBPETokenizer
from transformers import LukeTokenizer, MLukeTokenizer

FOLDER = Path(__file__).parent
SEED = 20240917
CASES_PER_TASK = 64
TASKS = (None, "entity_span_classification", "entity_classification", "entity_pair_classification")

SENTENCES = [
    "First line\nsecond line\r\n\tindented   with   runs of spaces",
    "  leading and trailing\u3000",
    "ﬁne Ｔｏｋｙｏ ① ½ ㎏ ™ “quoted” ‘single’ non\u00a0breaking soft\u00adhyphen zero\u200bwidth",
    *"""\
Beyoncé lives in Los Angeles, and she doesn't often leave California.
The European Central Bank (ECB) raised rates by 0.25% on 14 September 2023; markets weren't surprised.
Dr. J. K. Rowling-Smith met O'Neill  at King's Cross — "platform 9¾", they'd said…
ACME Corp.'s e-mail is info@example.org, see https://example.org/a_b?c=1&d=2 for more.
Im Jahr 1871 gründete Wilhelm I. in Versailles das Deutsche Kaiserreich, größer als je zuvor.
L'été dernier, l'Assemblée nationale a élu sa présidente à Paris.
El señor Peña viajó de Bogotá a Los Ángeles en ómnibus.
Thành phố Hồ Chí Minh là thành phố lớn nhất Việt Nam.
İstanbul Boğazı'nın iki yakası Fatih Sultan Mehmet Köprüsü ile bağlanır.
Москва — столица Российской Федерации, а Санкт-Петербург стоит на Неве.
Київ розташований на берегах Дніпра.
Η Αθήνα είναι η πρωτεύουσα της Ελλάδας.
北京是中华人民共和国的首都，人口超过两千万。
上海市位于长江入海口，浦东国际机场于1999年启用。
ビヨンセはロサンゼルスに住んでいる。東京タワーは１９５８年に完成した。
国際連合の本部はニューヨークにある。
서울은 대한민국의 수도이고 부산은 항구 도시이다.
القاهرة هي عاصمة جمهورية مصر العربية وأكبر مدنها.
ירושלים היא עיר הבירה של ישראל.
กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย และทำเลดีมาก
नई दिल्ली भारत की राजधानी है।
ადამიანი ცხოვრობს თბილისში.
👩‍🚀 flew to the ISS 🚀🚀 with 🇩🇪 and 🇯🇵 flags 😀!
if x[0] <= y and (a | b) > 3: return "Ġ▁"  # code
""".splitlines(),
]

# Two orders of the special entries, and titles that look like them.
LUKE_ENTITIES = """\
[PAD]
[UNK]
[MASK]
Beyoncé
Los Angeles
The "[MASK]" (film)
"[MASK]"
AC\\DC
European Central Bank
Tokyo
Москва
MASK
[MASK2]
""".splitlines()
MLUKE_ENTITIES = [
    ["en:Beyoncé", "ja:ビヨンセ"],
    ["[MASK2]"],
    ["en:Los Angeles", "es:Los Ángeles"],
    ["[UNK]"],
    ["ru:Москва", "en:Moscow"],
    ["[MASK]"],
    ["zh:北京市"],
    ["[PAD]"],
    ["ar:القاهرة"],
]
ABSENT = ["No Such Title", "xx:Nowhere"]

POSITIONS = ["entity_start_positions", "entity_end_positions"]
INPUTS = ["input_ids", "entity_ids", "entity_position_ids", *POSITIONS]


def make_luke(work: Path) -> dict[str | None, Any]:
    """Train the byte-level BPE, save its folder, and return a tokenizer for each task."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        SENTENCES, vocab_size=1100, min_frequency=2, special_tokens=["<s>", "<pad>", "</s>", "<unk>"]
    )
    bpe.save_model(str(work))
    vocab = json.loads((work / "vocab.json").read_text("utf-8"))
    (work / "vocab.json").write_text(json.dumps(vocab | {"<mask>": len(vocab)}), "utf-8")
    entities = {title: index for index, title in enumerate(LUKE_ENTITIES)}
    (work / "entity_vocab.json").write_text(json.dumps(entities), "utf-8")
    files = [str(work / name) for name in ("vocab.json", "merges.txt", "entity_vocab.json")]
    LukeTokenizer(*files).save_pretrained(FOLDER / "luke-v4-layout")
    return {task: LukeTokenizer(*files, task=task) for task in TASKS}


def make_mluke(work: Path) -> dict[str | None, Any]:
    """Train the Unigram model, save its folder, and return a tokenizer for each task."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        vocab_size=800,
        hard_vocab_limit=False,
        character_coverage=0.99,  # some characters stay unknown
        num_threads=1,
        minloglevel=2,
    )
    (work / "sentencepiece.bpe.model").write_bytes(model.getvalue())
    entities = {title: index for index, titles in enumerate(MLUKE_ENTITIES) for title in titles}
    (work / "entity_vocab.json").write_text(json.dumps(entities), "utf-8")
    files = [str(work / name) for name in ("sentencepiece.bpe.model", "entity_vocab.json")]
    MLukeTokenizer(*files).save_pretrained(FOLDER / "mluke-v4-layout")
    return {task: MLukeTokenizer(*files, task=task) for task in TASKS}


def draw_text(rng: random.Random) -> str:
    """Two or three sentences, at times decomposed (accents and Hangul as several characters)."""
    text = rng.choice([" ", "  ", "\n", "\t ", ""]).join(rng.choices(SENTENCES, k=rng.randint(2, 3)))
    return unicodedata.normalize("NFD", text) if rng.random() < 0.15 else text


def draw_spans(rng: random.Random, text: str, task: str | None) -> list[tuple[int, int]]:
    """Character ranges: any, whole words, or mentions of more than 30 tokens; two words apart for a pair."""
    words = [match.span() for match in re.finditer(r"\w+", text)]
    if task == "entity_pair_classification":
        return rng.sample(words, 2)
    count = 1 if task == "entity_classification" else rng.randint(1, 8)
    spans: list[tuple[int, int]] = []
    for _ in range(count):
        start = rng.randrange(len(text))
        if rng.random() < 0.4:
            spans.append(rng.choice(words))
        elif rng.random() < 0.3:
            spans.append((start, min(len(text), start + rng.randint(60, 150))))
        else:
            spans.append((start, min(len(text), start + rng.randint(1, 14))))
    return spans


def inputs(
    tokenizer: LukeTokenizer | MLukeTokenizer,
    text: str,
    spans: list[tuple[int, int]],
    titles: list[str] | None,
) -> dict[str, Any]:
    """What 4.57.6 builds."""
    made = tokenizer(text, entity_spans=spans, entities=titles)
    return {name: made.get(name) for name in INPUTS}


def main() -> None:
    """Write the two folders and inputs.parquet."""
    if transformers.__version__ != "4.57.6":
        raise SystemExit(f"this needs transformers 4.57.6, not {transformers.__version__}")
    with TemporaryDirectory() as work:
        tokenizers = {"luke": make_luke(Path(work)), "mluke": make_mluke(Path(work))}
    titles = {"luke": LUKE_ENTITIES, "mluke": [title for group in MLUKE_ENTITIES for title in group]}
    rng = random.Random(SEED)
    rows: list[dict[str, Any]] = []
    for index in range((len(TASKS) + 1) * CASES_PER_TASK):
        task, text = (*TASKS, None)[index // CASES_PER_TASK], draw_text(rng)
        spans = draw_spans(rng, text, task)
        row: dict[str, Any] = {"text": text, "spans": spans, "task": task}
        for kind, by_task in tokenizers.items():
            with_titles = index >= len(TASKS) * CASES_PER_TASK
            drawn = rng.choices(titles[kind] + ABSENT, k=len(spans)) if with_titles else None
            row |= {f"{kind}_titles": drawn, kind: inputs(by_task[task], text, spans, drawn)}
        rows.append(row)
    numbers = pa.list_(pa.int32())
    types = dict.fromkeys(INPUTS, numbers) | {"entity_position_ids": pa.list_(numbers)}
    made = pa.struct(types.items())
    columns: dict[str, pa.DataType] = {"text": pa.string(), "spans": pa.list_(numbers), "task": pa.string()}
    for kind in tokenizers:
        columns |= {f"{kind}_titles": pa.list_(pa.string()), kind: made}
    table = pa.Table.from_pylist(rows, schema=pa.schema(columns.items()))
    pq.write_table(table, FOLDER / "inputs.parquet", compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
