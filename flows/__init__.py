"""Prefect flows and the command line."""

from __future__ import annotations

import understudy  # checks that `core` and `tasks` are ours

if not hasattr(understudy, "check_packages"):
    raise ImportError(
        "the package 'understudy' that Python finds is not the one of understudy-distill: a folder of that "
        "name in the working directory or another project's distribution shadows ours; run from another "
        "directory, or run `pip uninstall understudy` and reinstall understudy-distill"
    )

from flows import environment

environment.set_defaults()
