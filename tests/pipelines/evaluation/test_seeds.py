from pipelines.evaluation.seeds import over_seeds, seeds_table


def summary(level, cold=None) -> dict:
    def table(x) -> dict:
        return {"all": {"recall@10": {"value": x}}, "cold_item": {"recall@10": {"value": cold}}}

    return {"metrics": {"test": table(level)}, "baselines": {"random": {"test": table(level / 2)}}}


def test_runs_are_summed_up_by_mean_and_standard_deviation_and_what_was_not_measured_is_left_out() -> None:
    found = over_seeds([summary(0.2), summary(0.4, cold=0.1), summary(0.3)], "test")
    assert list(found) == ["model", "random"]
    assert found["model"]["all"]["recall@10"] == {"mean": 0.3, "sd": 0.1, "n": 3}
    assert found["model"]["cold_item"]["recall@10"] == {"mean": 0.1, "sd": None, "n": 1}
    head, model, random = seeds_table(found, [1, 2, 3], "test").splitlines()
    assert head.split() == ["test,", "3", "seeds", "recall@10", "all", "recall@10", "cold", "item"]
    assert model.split() == ["model", "0.3000", "±", "0.1000", "0.1000"]
    assert random.split() == ["random", "0.1500", "±", "0.0500", "0.1000"]
    assert seeds_table(over_seeds([{"metrics": None, "baselines": None}], "test"), [1], "test") == "test: not evaluated"
