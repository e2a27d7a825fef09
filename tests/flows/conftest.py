"""The stages of the small project, for commands that read a bundle."""

from __future__ import annotations

import flows  # noqa: F401  # it sets how Prefect logs, which has to come before Prefect is imported
from tests.core.conftest import bundle, made, whole  # noqa: F401  # fixtures
