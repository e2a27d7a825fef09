"""One Prefect task a stage: retries, caching and progress, no logic."""
