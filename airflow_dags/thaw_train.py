"""The newest audited day to a model: records, DropoutNet, evaluation, promotion, recommendations.

It runs when thaw_daily has published a day, and weekly in any case. It trains on the newest day that there is,
whichever was published last, so that a backfill of older days never takes the model back. A refused promotion is no
failure: the champion goes on recommending, for the new day.
"""

from datetime import datetime, timedelta, timezone

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, Param, chain, task
from airflow.sdk.exceptions import AirflowSkipException
from thaw_tasks import DAYS, DEFAULT_ARGS, PARAMS, REFUSED, SETTINGS, job

CHOSEN = {name: f"{{{{ ti.xcom_pull(task_ids='choose_day')['{name}'] }}}}" for name in ("day", *SETTINGS)}

with DAG(
    dag_id="thaw_train",
    description="The newest audited day to a registered model and recommendations",
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("0 4 * * 1", timezone="UTC"), assets=[DAYS]),
    start_date=datetime(2025, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=36),
    default_args={**DEFAULT_ARGS, "execution_timeout": timedelta(hours=24)},
    params={
        **PARAMS,
        "day": Param(None, type=["null", "string"], description="day to train on; absent: the newest published one"),
    },
    tags=["thaw"],
    doc_md=__doc__,
) as dag:

    @task(inlets=[DAYS])
    def choose_day(settings, params=None, inlet_events=None):
        """The day to train on, and the settings: those that it was made with, or of this run where it names the day."""
        if params["day"]:
            return {"day": params["day"], **settings}
        days = [event.extra for event in inlet_events[DAYS] if "day" in event.extra]
        if not days:
            raise AirflowSkipException("no day is published yet; run thaw_daily first")
        # Of a day that was published again the last event tells how it was made; max() takes the first that it meets.
        return {**settings, **max(reversed(days), key=lambda extra: extra["day"])}

    names = ("compute_factors", "write_records", "train_dropoutnet", "evaluate_model")
    trained = [job(name, CHOSEN["day"], CHOSEN) for name in names]
    promoted = job("promote_model", CHOSEN["day"], CHOSEN, skip_on=(REFUSED,))
    # After a refused promotion too, and never where there was nothing to evaluate.
    recommended = job("recommend", CHOSEN["day"], CHOSEN, trigger_rule="none_failed_min_one_success")
    chain(choose_day(SETTINGS), *trained, promoted, recommended)
    trained[-1] >> recommended
