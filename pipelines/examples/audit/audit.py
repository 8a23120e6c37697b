"""The audit, assembled: every row's own columns, a sample recomputed plainly, and all rows under another future."""

import datetime as dt

from pipelines.config import Config
from pipelines.examples.audit.evidence import gather, sample_candidates, sample_examples, sample_training
from pipelines.examples.audit.future import availability_quantiles, choose_cut
from pipelines.examples.audit.metamorphic import Build, Change, Published, check_future, check_order
from pipelines.examples.audit.oracle import Oracle
from pipelines.examples.audit.outcomes import Outcomes
from pipelines.examples.audit.priors import check_priors
from pipelines.examples.audit.probe import probe
from pipelines.examples.audit.provenance import candidate_rules, check_rows, example_rules
from pipelines.examples.audit.raw import RawData, check_raw
from pipelines.examples.audit.recheck import recheck_candidates, recheck_examples
from pipelines.examples.audit.report import AuditReport, Check, Probed, Skipped
from pipelines.examples.build import build
from pipelines.examples.tables import Tables
from pipelines.features import feature_set
from pipelines.spark import together
from schemas.fitted import Fitted

CANDIDATE_SHARE = 4
"""One candidate is recomputed for so many examples."""
PROBED = 20_000
"""Training examples, about, that features are held beside the label on."""
THOROUGH_SAMPLE = 5
"""A thorough audit looks at so many times as many rows where it samples."""
THOROUGH_CUTS = (0.2, 0.4, 0.8, 0.95)
"""…and at other futures from these quantiles of availability too."""

Found = tuple[list[Check], list[Probed], list[Skipped]]


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
    cut = choose_cut(tables, built.candidates, config)
    future, (checks, probed, skipped) = together(
        lambda: (check_future(built, tables, config, fitted, rebuild, cut), [], []),
        lambda: _look(built, tables, config, fitted, raw),
    )
    checks += future[0]
    if config.audit.thorough:
        checks += _look_further(built, tables, config, fitted, rebuild)
    return AuditReport(tuple(checks), tuple(probed), cut, config.audit.thorough, tuple(skipped))


def _look(built: Published, tables: Tables, config: Config, fitted: Fitted, raw: RawData | None) -> Found:
    """All that needs no second build."""
    key = ("item_id", "in_effect_from")
    times, features = THOROUGH_SAMPLE if config.audit.thorough else 1, feature_set(config)
    training = sample_training(built.examples, [c.name for c in features.columns], PROBED * times, config.seed)
    probed, judged = probe(training, features, config.audit.max_feature_auc)
    checks, skipped = check_raw(raw, tables, config, config.audit.sample * times)
    checks = [
        *check_rows(built.examples, example_rules(config, fitted.cuts), ("example_id",), "example"),
        *check_rows(built.candidates, candidate_rules(config), key, "candidate"),
        check_priors(tables.interactions, config, fitted),
        *([judged] if isinstance(judged, Check) else []),
        *checks,
        *_recheck(built, tables, config, fitted, config.audit.sample * times),
    ]
    return checks, probed, [*([judged] if isinstance(judged, Skipped) else []), *skipped]


def _recheck(built: Published, tables: Tables, config: Config, fitted: Fitted, count: int) -> list[Check]:
    """The sampled rows beside their plain recomputation."""
    examples = sample_examples(built.examples, count, config.seed)
    candidates = sample_candidates(built.candidates, -(-count // CANDIDATE_SHARE), config.seed)
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
