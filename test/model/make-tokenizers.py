"""Writes small tokenizers of the kinds that checkpoints come with, and the ids of nasty strings under each.

    python make-tokenizers.py [FOLDER]        (default: fixtures/tokenizers, beside this file)

The reference is the Rust library, `tokenizers` on PyPI.
"""
import json
import pathlib
import shutil
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "fixtures" / "tokenizers"

CORPUS = [
    "The capital of Mali is Bamako. The capital of France is Paris, isn't it? We'll see; they've said so.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(2, 3))\t# 5\r\n",
    "In 1984, 3.14159 and 1000000 were numbers; so are ½, ², Ⅷ and ٣٤٥.",
    "naïve café Straße Ελλάδα Москва 東京 한국어 العربية हिन्दी 🙂👩‍👩‍👧‍👦",
    "x = y + 2 * (z - 1) / 4  ;  x² ≠ y²   and   so   on    ...",
] * 3

NASTY = [
    "", " ", "  ", "   \n \n\n", "a", " a", "a ", "\n", "\r\n", "\t\t x", "a\u0085b\u0085\u0085 c", "\ufeffBOM!! \ufeff\ufeff x", "\u00a0nbsp\u00a0\u00a0x",
    "\u200bzero\u200bwidth", "\u2028line\u2029para", "\u180e\u3000wide", "\x00nul\x00\x1f", "don't DON'T we'Ll i'D x'sx 's", "½ ²³ Ⅷ ٣٤٥ 一二三 12345678901 1,000.50 3.14e-10",
    "e\u0301 é \u1e9b\u0323 ﬁ Å \u212b", "한국어 한국어 각", "🙂🙃👩‍👩‍👧‍👦🏳️‍🌈\U0001f3fb", "\ufffd \uffff \U0010ffff", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐐷", "<s>hi</s> <|end|> <|end|>x <|end", "▁▁ a▁b ▁", "<0x0A> <0x41>",
    "x" * 300, " " * 77 + "x", "\n" * 50 + " y", "0" * 100, "!?" * 60, "ab " * 40, "東京" * 40, "\u0301" * 30, "a\u0301\u0327b" * 9,
    "The capital of Mali is", " Bamako.", "if (x) {\n\t\treturn;\n}   \n\n  // end  ", "https://example.org/a?b=c&d=%20#e", "ΑΣ ΣΑΣ İI ıi ǅ", "\r\r\n\n\r x\r",
    "a\u200db\u200c", "اَلْعَرَبِيَّةُ ١٢٣", "नमस्ते दुनिया", "ไทยไม่มีเว้นวรรค", "  leading and trailing  ", "trailing space then end \u3000",
]

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace("{1,3}", "")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
SPECIALS = ["<s>", "</s>", "<|end|>"]


def bpe(pre, normalizer=None, alphabet=None, size=600, post=None, decoder=None, specials=SPECIALS, **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer = pre
    if normalizer is not None:
        t.normalizer = normalizer
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=specials, initial_alphabet=alphabet or [], show_progress=False)
    t.train_from_iterator(CORPUS, trainer)
    if post is not None:
        t.post_processor = post
    t.decoder = decoder or decoders.ByteLevel()
    return t


def byte_level(pre, **kw):
    return bpe(pre, alphabet=pre_tokenizers.ByteLevel.alphabet(), **kw)


def template(**kw):
    return processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 0)])


def sentencepiece(pre, normalizer=None, train_split=True):
    """Trained with words split at the mark (or not, for merges that cross it), then used as Llama 2 and Mistral are: bytes for what is not in the vocabulary."""
    fallback = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    trained = bpe(pre_tokenizers.Metaspace(prepend_scheme="always", split=train_split), size=620, specials=fallback, unk_token="<unk>")
    data = json.loads(trained.to_str())
    data["model"] |= dict(byte_fallback=True, fuse_unk=True, unk_token="<unk>")
    data["added_tokens"] = [a for a in data["added_tokens"] if a["id"] < 3]
    t = Tokenizer.from_str(json.dumps(data))
    t.pre_tokenizer = pre
    if normalizer is not None:
        t.normalizer = normalizer
    t.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return t


def tokenizers():
    split = lambda pattern: pre_tokenizers.Split(Regex(pattern), "isolated")
    yield "gpt2", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False), post=processors.ByteLevel(trim_offsets=False))
    yield "prefix-space", byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    yield "llama3", byte_level(pre_tokenizers.Sequence([split(LLAMA3), BYTES]), ignore_merges=True,
                               post=processors.Sequence([processors.ByteLevel(trim_offsets=False), template()]))
    yield "qwen2", byte_level(pre_tokenizers.Sequence([split(QWEN2), BYTES]), normalizer=normalizers.NFC())
    yield "smollm", byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                        pre_tokenizers.ByteLevel(add_prefix_space=False)]))
    yield "digit-runs", byte_level(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=False),
                                                            pre_tokenizers.ByteLevel(add_prefix_space=True)]))
    yield "llama2", sentencepiece(None, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))
    yield "mistral", sentencepiece(pre_tokenizers.Metaspace(prepend_scheme="first", split=False))
    yield "metaspace-split", sentencepiece(pre_tokenizers.Metaspace(prepend_scheme="always", split=True), train_split=False)
    t = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    t.add_tokens([AddedToken("<mask>", lstrip=True, normalized=False, special=True), AddedToken("capital of", normalized=True),
                  AddedToken("<r>", rstrip=True, special=True)])
    yield "added-tokens", t


if __name__ == "__main__":
    shutil.rmtree(OUT, ignore_errors=True)
    for name, tokenizer in tokenizers():
        folder = OUT / name
        folder.mkdir(parents=True)
        data = json.loads(tokenizer.to_str())
        (folder / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n")
        texts = NASTY + ["a  <mask> b", "<r>  x", "the capital of  capital of<mask>"]
        ids = [[tokenizer.encode(x).ids, tokenizer.encode(x, add_special_tokens=False).ids] for x in texts]
        decoded = [tokenizer.decode(without, skip_special_tokens=False) for _, without in ids]
        cases = [{"text": x, "ids": a, "idsWithout": b, "decoded": d} for x, (a, b), d in zip(texts, ids, decoded)]
        (folder / "expected.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
        print(name, tokenizer.get_vocab_size())
