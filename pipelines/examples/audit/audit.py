"""The audit, assembled: every row's own columns, a sample recomputed plainly, and all rows under another future."""

from pipelines.config import Config
from pipelines.examples.audit.evidence import gather, sample_candidates, sample_examples
from pipelines.examples.audit.metamorphic import Build, Published, check_future
from pipelines.examples.audit.oracle import Oracle
from pipelines.examples.audit.outcomes import Outcomes
from pipelines.examples.audit.priors import check_priors
from pipelines.examples.audit.provenance import candidate_rules, check_rows, example_rules
from pipelines.examples.audit.recheck import recheck_candidates, recheck_examples
from pipelines.examples.audit.report import AuditReport, Check
from pipelines.examples.build import build
from pipelines.examples.tables import Tables
from pipelines.spark import together
from schemas.fitted import Fitted

CANDIDATE_SHARE = 4
"""One candidate is recomputed for so many examples."""


def audit(built: Published, tables: Tables, config: Config, fitted: Fitted, rebuild: Build = build) -> AuditReport:
    """Hold what was built from `tables` against the rules of docs/time.md. `rebuild` makes it again."""
    cuts, key = fitted.cuts, ("item_id", "in_effect_from")
    future, rows = together(
        lambda: check_future(built, tables, config, fitted, rebuild),
        lambda: [
            *check_rows(built.examples, example_rules(config, cuts), ("example_id",), "example"),
            *check_rows(built.candidates, candidate_rules(config), key, "candidate"),
            check_priors(tables.interactions, config, fitted),
            *_recheck(built, tables, config, fitted),
        ],
    )
    return AuditReport((*rows, *future))


def _recheck(built: Published, tables: Tables, config: Config, fitted: Fitted) -> list[Check]:
    """The sampled rows beside their plain recomputation."""
    count, seed = config.audit.sample, config.seed
    examples = sample_examples(built.examples, count, seed)
    candidates = sample_candidates(built.candidates, -(-count // CANDIDATE_SHARE), seed)
    past = gather([*examples, *candidates], tables, config)
    oracle, outcomes = Oracle(past, config, fitted), Outcomes(past, config, fitted)
    return [*recheck_examples(examples, oracle, outcomes), *recheck_candidates(candidates, oracle, outcomes)]
