"""What every gate does with its verdicts: keep them, and crown the challenger where all hold."""

from collections.abc import Sequence

from mlflow import MlflowClient

from jobs.launch import Context, Draft
from pipelines.storage import write_json
from pipelines.tracking.champions import crown
from pipelines.tracking.promotion import Rival, Verdict, keep_verdicts, require
from pipelines.tracking.runs import CHAMPION


def decided(
    context: Context,
    client: MlflowClient,
    version: tuple[str, str, str],
    verdicts: Sequence[Verdict],
    met: Rival | None,
) -> Draft:
    """The draft of a promotion. `version`: name, version and run of the challenger. Raises PromotionError."""
    name, number, run_id = version
    keep_verdicts(client, run_id, verdicts, met)
    checks = require(verdicts, name, number)
    crown(client, name, number)
    champion = {"champion": {"version": met.version, "differences": met.differences}} if met else {}
    return Draft(
        tables={"verdicts": write_json(context.staging, "verdicts.json", checks)},
        facts={"promoted": True, "checks": checks, **champion},
        notes={"name": name, "version": number, "alias": CHAMPION},
    )
