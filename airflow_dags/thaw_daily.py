"""A day of the log: quality, preference snapshot, the examples whose labels have closed, audit; then an Asset.

Every task from check_quality on sees only what had come into sight by the end of its data interval (`--as-of`), so that
a day that is run late, again, or in a backfill gives what it would have given then. A day is a workspace of its own,
OUT/days/DATE. A day without data is skipped, and the next day reads whatever has arrived by then. docs/airflow.md says
more.
"""

from datetime import datetime, timedelta, timezone

from airflow.providers.standard.sensors.date_time import DateTimeSensor
from airflow.sdk import DAG, CronDataIntervalTimetable, Param, chain, task
from thaw_tasks import DAYS, DEFAULT_ARGS, NO_DATA, PARAMS, SETTINGS, job

DAY = "{{ data_interval_end | ds }}"
"""The boundary that the day ends at: all of the day lies before it."""
MINUTES = (
    "((var.value.get('thaw_landing_minutes', '') or 60) if params.landing_minutes is none else params.landing_minutes)"
    " | int(none)"  # text that is no number must fail, and not mean 0
)
"""How long after that boundary the data has landed, of a template."""
WAIT = timedelta(days=8)
"""Longer than any landing delay."""

with DAG(
    dag_id="thaw_daily",
    description="A day of the log to audited examples",
    # A plain "@daily" gives an interval of zero length; this one is the day.
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=WAIT + timedelta(days=1),  # each task has a limit of its own
    default_args=DEFAULT_ARGS,
    params={
        **PARAMS,
        "landing_minutes": Param(
            None, type=["null", "integer"], minimum=0, description="preferences.landing_delay in minutes"
        ),
    },
    tags=["thaw"],
    doc_md=__doc__,
) as dag:
    landed = DateTimeSensor(
        task_id="wait_until_landed",
        target_time=f"{{{{ data_interval_end.add(minutes={MINUTES}) }}}}",
        mode="reschedule",
        poke_interval=300,
        timeout=WAIT,
        execution_timeout=None,
    )

    @task(outlets=[DAYS])
    def publish(day, settings, outlet_events=None):
        """Say that the day is there: DAGs that wait for the Asset start."""
        outlet_events[DAYS].extra = {"day": day, **settings}

    before = [
        job(name, DAY, SETTINGS)
        for name in ("generate_demo", "write_image_records", "train_classifier", "embed_content")
    ]
    quality = job("check_quality", DAY, SETTINGS, skip_on=(NO_DATA,))
    after = [job(name, DAY, SETTINGS) for name in ("compute_preferences", "build_examples", "audit_leakage")]
    chain(landed, *before, quality, *after, publish(DAY, SETTINGS))
