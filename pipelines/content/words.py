"""Text to hashed words: the same number for a word on every machine, and no vocabulary to keep."""

import re
import unicodedata
from functools import lru_cache
from hashlib import blake2b

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-cased words of any script, in order; composed and decomposed accents are one.

    >>> words("Blue-Green Café, 2nd ed.")
    ['blue', 'green', 'café', '2nd', 'ed']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def grams(found: list[str], ngrams: int) -> list[str]:
    """Each word, followed by the runs of up to `ngrams` words that it opens.

    >>> grams(["red", "wine", "glass"], 2)
    ['red', 'red wine', 'wine', 'wine glass', 'glass']
    """
    return [
        " ".join(found[start : start + size])
        for start in range(len(found))
        for size in range(1, min(ngrams, len(found) - start) + 1)
    ]


@lru_cache(maxsize=1 << 16)
def text_buckets(text: str, length: int, buckets: int, ngrams: int = 1) -> tuple[int, ...]:
    """The buckets of the first `length` grams, zeros after them. The same titles come again in batch after batch."""
    found = [bucket(gram, buckets) for gram in grams(words(text)[:length], ngrams)[:length]]
    return (*found, *[0] * (length - len(found)))


@lru_cache(maxsize=1 << 16)
def bucket(word: str, buckets: int) -> int:
    """The word's bucket, 1 … `buckets`; 0 is left to padding."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little") % buckets + 1
