import pytest

from pipelines.errors import InputError
from pipelines.examples.fit import fit
from schemas.fitted import Cuts

DATES = {"validation_start": "1970-01-01T00:00:00.000100", "test_start": "1970-01-01T00:00:00.000200"}
GOOD = ["u i 50 impression", "u i 51 click", "u j 50 impression", "u j 150 impression", "v i 250 impression"]


def test_cuts_priors_and_the_kept_share_come_from_the_log(log, config) -> None:
    fitted = fit(log(*GOOD, "v j 260 click"), config(split=DATES, labels={"max_examples": 2}))
    assert fitted.cuts == Cuts(validation_start=100, test_start=200, end=250)
    assert fitted.keep_share == 2 / 4
    assert fitted.priors == {"click_rate": 1 / 2}


def test_without_a_limit_every_labelled_event_is_kept(log, config) -> None:
    assert fit(log(*GOOD), config(split=DATES)).keep_share == 1
    assert fit(log(*GOOD), config(split=DATES, labels={"max_examples": 100})).keep_share == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["u i 50 click"], "found none"),
        ([*GOOD[:3], GOOD[4]], "validation has none; set split.validation_start"),
        (GOOD[:4], "test has none"),
        ([*GOOD[2:], "u i 95 impression", "u i 95 click"], "all 1 are 0"),
        (["u i 95 impression", *GOOD[3:]], r"train has none \(1 labels closed only after the split's end\)"),
        (GOOD[:2] + GOOD[3:], r"all 1 are 1; check labels.rule \(impressions\), labels.label_window \(10us\)"),
    ],
)
def test_a_log_that_cannot_be_learned_from_is_refused_with_the_remedy(log, config, lines, said) -> None:
    with pytest.raises(InputError, match=said):
        fit(log(*lines), config(split=DATES))


def test_equal_labels_by_threshold_name_the_threshold(log, config) -> None:
    settings = config(split=DATES, labels={"rule": "threshold", "positive_actions": ["rating"], "threshold": 4})
    with pytest.raises(
        InputError, match=r"all 2 are 1; .* labels.threshold \(4\) and labels.positive_actions \(rating\)"
    ):
        fit(log(*[f"u i {t} rating {t} 5" for t in (10, 20, 150, 250)]), settings)
