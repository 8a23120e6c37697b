"""CiteULike-t, with words: are models in the same order on a set on which nothing was chosen?

There is no published split: of each article's pairs (warm), of the articles (cold), a fifth is hidden by seed. Content
is words, tags and citations. Data is found through THAW_TEST_DATA; the rest is that of `citeulike_a`.
"""

from benchmarks._citeulike import read_articles, read_pairs, seeded_split
from benchmarks._citeulike_run import data_folder, run

SPLIT_SEED = 2017


def main() -> None:
    """Measure and print."""
    folder = data_folder("citeulike-t")
    pairs = read_pairs(folder)
    splits = [seeded_split(pairs, name, SPLIT_SEED) for name in ("warm", "cold")]
    run("citeulike_t", read_articles(folder), splits)
