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


@lru_cache(maxsize=1 << 16)
def text_buckets(text: str, length: int, buckets: int) -> tuple[int, ...]:
    """The buckets of the first `length` words, zeros after them. The same titles come again in batch after batch."""
    found = [bucket(word, buckets) for word in words(text)[:length]]
    return (*found, *[0] * (length - len(found)))


@lru_cache(maxsize=1 << 16)
def bucket(word: str, buckets: int) -> int:
    """The word's bucket, 1 … `buckets`; 0 is left to padding."""
    return int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "little") % buckets + 1
