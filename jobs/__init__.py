"""Thin jobs: arguments in, manifest out. Each file serves spark-submit, `thaw JOB` and Airflow alike."""
