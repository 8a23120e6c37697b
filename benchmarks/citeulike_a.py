"""CiteULike-a: does DropoutNet reproduce, and do the end-to-end towers recommend new articles better than what exists?

The split of Volkovs, Yu and Poutanen (NIPS 2017); content is tags and citations, for the abstracts' words are not in
the files. Data is found through THAW_TEST_DATA; what else can be set, and the protocol: `_citeulike_run`, `_citeulike`.
"""

from benchmarks._citeulike import published_split, read_articles
from benchmarks._citeulike_run import data_folder, run


def main() -> None:
    """Measure and print."""
    folder = data_folder("citeulike-a")
    articles = read_articles(folder)
    shape = (sum(1 for _ in (folder / "users.dat").open("rb")), articles.tags.shape[0])
    run("citeulike_a", articles, [published_split(folder, name, shape) for name in ("warm", "cold")])
