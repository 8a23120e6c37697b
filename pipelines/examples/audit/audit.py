"""The audit, assembled: every row's own columns, a sample recomputed plainly, and all rows under another future."""

import datetime as dt
from dataclasses import replace

from pipelines.config import Config
from pipelines.examples.audit.evidence import gather, sample_candidates, sample_examples, sample_training
from pipelines.examples.audit.future import availability_quantiles, choose_cut
from pipelines.examples.audit.metamorphic import Build, Change, Published, check_future, check_order
from pipelines.examples.audit.oracle import Oracle
from pipelines.examples.audit.outcomes import Outcomes
from pipelines.examples.audit.priors import check_priors
from pipelines.examples.audit.probe import probe
from pipelines.examples.audit.provenance import candidate_rules, catalogue_rules, check_rows, example_rules
from pipelines.examples.audit.raw import RawData, check_raw
from pipelines.examples.audit.recheck import recheck_candidates, recheck_examples
from pipelines.examples.audit.report import AuditReport, Check, Skipped
from pipelines.examples.audit.served import check_served
from pipelines.examples.build import build
from pipelines.examples.tables import Tables
from pipelines.features import feature_set
from pipelines.spark import together
from schemas.fitted import Fitted

CANDIDATE_SHARE = 4
"""One candidate is recomputed for so many examples."""
PROBED = 25_000
"""Features are held beside the label on the training examples among about so many."""
THOROUGH_SAMPLE = 5
"""A thorough audit looks at so many times as many rows where it samples."""
THOROUGH_DAYS = 3
"""…what was served on so many days…"""
THOROUGH_CUTS = (0.2, 0.4, 0.8, 0.95)
"""…and at other futures from these quantiles of availability too."""


def audit(
    built: Published,
    tables: Tables,
    config: Config,
    fitted: Fitted,
    rebuild: Build = build,
    raw: RawData | None = None,
) -> AuditReport:
    """Hold what was built from `tables` against the rules of docs/time.md. `rebuild` makes it again.

    Without `raw` the clean tables themselves are not held against what they were made of; the report says so.
    """

    def change_the_future() -> AuditReport:
        cut = choose_cut(tables, built.candidates, config)
        return AuditReport(tuple(check_future(built, tables, config, fitted, rebuild, cut)), cut=cut)

    future, looked = together(change_the_future, lambda: _look(built, tables, config, fitted, raw))
    checks = (*looked.checks, *future.checks)
    if config.audit.thorough:
        checks += tuple(_look_further(built, tables, config, fitted, rebuild))
    return replace(looked, checks=checks, cut=future.cut, thorough=config.audit.thorough)


def _look(built: Published, tables: Tables, config: Config, fitted: Fitted, raw: RawData | None) -> AuditReport:
    """All that needs no second build."""
    key = ("item_id", "in_effect_from")
    times, features = THOROUGH_SAMPLE if config.audit.thorough else 1, feature_set(config)
    checks = check_rows(built.examples, example_rules(config, fitted.cuts), ("example_id",), "example")
    share = PROBED * times / max(checks[0].checked, 1)
    training = sample_training(built.examples, [column.name for column in features.columns], share, config.seed)
    probed, judged = probe(training, features, config.audit.max_feature_auc)
    candidates = built.candidates if built.catalogue is None else built.candidates.unionByName(built.catalogue)
    beside, skipped = check_raw(raw, tables, config, config.audit.sample * times)
    days = THOROUGH_DAYS if config.audit.thorough else 1
    served = check_served(built.examples, tables, config, fitted, config.audit.sample, days)
    checks += [
        *check_rows(candidates, candidate_rules(config), key, "candidate"),
        *(
            check_rows(built.catalogue, catalogue_rules(fitted.cuts), key, "catalogue row")
            if built.catalogue is not None
            else []
        ),
        check_priors(tables.interactions, config, fitted),
        *([judged] if isinstance(judged, Check) else []),
        *beside,
        *_recheck(built, tables, config, fitted, config.audit.sample * times),
        *(found for found in served if isinstance(found, Check)),
    ]
    skipped = [found for found in (judged, *skipped, *served) if isinstance(found, Skipped)]
    return AuditReport(tuple(checks), tuple(probed), skipped=tuple(skipped))


def _recheck(built: Published, tables: Tables, config: Config, fitted: Fitted, count: int) -> list[Check]:
    """The sampled rows beside their plain recomputation."""
    examples = sample_examples(built.examples, count, config.seed)
    kinds = [frame for frame in (built.candidates, built.catalogue) if frame is not None]
    share = -(-count // CANDIDATE_SHARE)
    candidates = [row for frame in kinds for row in sample_candidates(frame, share, config.seed)]
    past = gather([*examples, *candidates], tables, config)
    oracle, outcomes = Oracle(past, config, fitted), Outcomes(past, config, fitted)
    return [*recheck_examples(examples, oracle, outcomes), *recheck_candidates(candidates, oracle, outcomes)]


def _look_further(built: Published, tables: Tables, config: Config, fitted: Fitted, rebuild: Build) -> list[Check]:
    """What a release asks for besides: every row built again from rows in another order, and further futures."""
    checks = check_order(built, tables, config, fitted, rebuild)
    for cut in availability_quantiles(tables.interactions, THOROUGH_CUTS):
        since = dt.datetime.fromtimestamp(cut // 1_000_000, dt.UTC).isoformat()
        change = Change(f"another future from {since}", "thorough")
        checks += check_future(built, tables, config, fitted, rebuild, cut, change)
    return checks
