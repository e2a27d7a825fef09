"""Prefect tasks, generated from the declared stages: see tasks.stage_tasks."""
