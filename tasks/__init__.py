"""Prefect tasks: generated from the declared stages, with their caching and retries."""
