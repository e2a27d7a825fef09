"""Flows at run time: their parameters, the runner that makes each stage a task, and Prefect's pages of a run.

Artifacts are created from the run's folder at the end of the flow, since a reused stage creates none.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

from prefect import Task, runtime
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.client.schemas.objects import State, StateDetails
from prefect.exceptions import CancelledRun, CrashedRun
from prefect.futures import PrefectFuture
from prefect.states import Completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from core.config import Config, ResolvedConfig
from core.config.loading import ConfigSource, validate
from core.errors import Failures, Part
from core.evaluation.analysis import Analysis
from core.pipeline.reporting import CURVE
from core.pipeline.run import resolve_for_run
from core.pipeline.run_context import RL, STUDENT, Phase
from core.pipeline.runners import PendingStage, Runner
from core.progress import Progress
from core.report import plain
from core.report.scorer_sections import scorer_rows
from core.stage import StageCall
from core.store import Manifest, RunView
from core.store.pointers import FOLDER
from tasks.stage_tasks import ACTION_TASKS, STAGE_TASKS, ArtifactProgress, StageWork, result_storage

log = logging.getLogger(__name__)

ANALYSIS = "student_phase/analysis.json"
FAILED = "what-happened"
_PARAMETER = "flow parameter"
# Evaluations of a remote engine; everything else is called on the flow's thread.
TWO_THREADS: TaskRunner[PrefectFuture[Any]] = cast(Any, ThreadPoolTaskRunner(max_workers=2))


def resolved_of(config: Config, data: str | None = None) -> ResolvedConfig:
    """A flow's config with the origin of each value; `data` replaces data.path, dir and files.

    Another table gets a run of its own, since a run's name belongs to one config. Raises ConfigError if the
    run has no name, or if the config is invalid with that data.
    """
    if data is None or config.run.name is None:
        return resolve_for_run(config, _PARAMETER)
    values = config.model_dump(mode="json", exclude_unset=True)
    inner = {k: v for k, v in values["data"].items() if k not in ("path", "dir", "files")}
    values["data"] = {**inner, "path": data}
    values["run"] = {**values.get("run", {}), "name": f"{config.run.name}-{table_slug(data)}"}
    return resolve_for_run(validate(values, ConfigSource(_PARAMETER, values, {})), _PARAMETER)


def table_slug(path: str) -> str:
    """The part of a path that distinguishes tables, for a run's name: its last part without its endings."""
    last = path.rstrip("/").rpartition("/")[2].split(".")[0]
    return re.sub(r"[^A-Za-z0-9]+", "-", last).strip("-").lower() or "data"


def flow_run_name() -> str:
    """Run, dataset and student, which distinguish the lines of a list of runs."""
    given: dict[str, Any] = runtime.flow_run.parameters
    config = Config.model_validate(given["config"])
    paths = (given.get("data") or config.data.path or config.data.name, config.student.model)
    table, model = (path.rstrip("/").rpartition("/")[2] for path in paths)
    return f"{config.run.name}: {table}, {model}"


class PrefectRunner(Runner):
    """Executes stages as Prefect tasks.

    Stages pass manifests, so that Prefect does not see what depends on what. Each task is therefore called
    with `wait_for` the task runs that built its inputs, from which the server draws the run's graph.
    """

    never_optional = (CancelledRun, CrashedRun)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._task_runs: dict[str, Any] = {}
        """The id of the task run by the path of the manifest that it built or found."""
        self._unread: dict[str, Any] = {}
        """Those that no later task run depends on yet."""

    def progress(self, label: str) -> Progress:
        return ArtifactProgress(label)

    def execute(self, call: StageCall, *, refresh: bool, cached: bool) -> bool:
        """Call the stage's task. Unless `cached`, Prefect's record is not asked: it may name an object that
        is gone."""
        work = StageWork(self.store, call, self.progress, refresh=refresh)
        with signals_raised():
            state: State[Any] = self._task(call, cached=cached)(
                work, wait_for=self._inputs(call), return_state=True
            )
        if not state.is_completed():
            # Without an error of the stage, the task run ended before its function began.
            ended = work.error or state.result(raise_on_failure=False)
            raise ended if isinstance(ended, BaseException) else CrashedRun(str(ended))
        self._note(call, state.state_details.task_run_id)
        return cached or work.reused

    def submit(self, call: StageCall, *, overlap: bool) -> PendingStage:
        """With `overlap` and an object that must be built, the task runs in another thread."""
        if not (overlap and self.must_build(call)):
            return super().submit(call, overlap=overlap)
        refresh = self._asked_for(call)
        self._log_reason(call, None, refresh=refresh)
        work = StageWork(self.store, call, self.progress, refresh=refresh)
        future: Any = self._task(call, cached=False).submit(work, wait_for=self._inputs(call))
        self._note(call, future.task_run_id)

        def result() -> Manifest:
            future.result()
            return self._publish(call, self._recorded(call, reused=work.reused))

        def release() -> None:
            with contextlib.suppress(Exception):  # a future that nobody reads would be dropped silently
                future.result()

        return PendingStage(result, lambda: bool(future.state.is_final()), release)

    def perform(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """Call the action's task, after all that no other task depends on."""
        task, before = ACTION_TASKS[action], _states(self._unread.values())
        with signals_raised():
            state: State[Any] = task(*arguments, wait_for=before, return_state=True)
        result = state.result()
        self._unread = {task.name: state.state_details.task_run_id}
        return result

    def show(self, phase: Phase) -> None:
        if phase is RL:
            show_report("rl-report", RL.report, self.view, self.failures)
        else:
            show_student(self.view, self.failures)

    def _task(self, call: StageCall, *, cached: bool) -> Task[..., Any]:
        return STAGE_TASKS[call.name].with_options(
            task_run_name=call.label.replace("{", "(").replace("}", ")"),
            result_storage=result_storage(self.store),
            result_serializer="json",
            refresh_cache=not cached,
        )

    def _note(self, call: StageCall, task_run: Any) -> None:
        for manifest in call.inputs.values():
            self._unread.pop(manifest.path, None)
        path = f"objects/{call.name}/{call.key}.json"
        self._task_runs[path] = self._unread[path] = task_run

    def _inputs(self, call: StageCall) -> list[State[Any]]:
        """The task runs of this run that built the inputs; earlier runs' objects have none."""
        paths = [manifest.path for manifest in call.inputs.values()]
        return _states(self._task_runs[path] for path in paths if path in self._task_runs)


@contextlib.contextmanager
def signals_raised() -> Iterator[None]:
    """Raise Ctrl-C or SIGTERM instead of an error that Prefect raises while it handles the signal.

    A signal that arrives while Prefect creates a task run would otherwise look like a bug: Prefect fails to
    record a crash of a task run that does not exist yet.
    """
    try:
        yield
    except Exception as e:
        cause = e.__context__
        while isinstance(cause, Exception):
            cause = cause.__context__
        if cause is None:
            raise
        raise cause from None


def _states(task_runs: Iterable[Any]) -> list[State[Any]]:
    """A reference to each task run. Its own state would make Prefect read the result from the storage."""
    return [Completed(data=True, state_details=StateDetails(task_run_id=each)) for each in task_runs]


def show_student(view: RunView, failures: Failures) -> None:
    """Create the artifacts of a run; one that fails is recorded in `failures`."""
    about = f"Run {view.name}"
    show_report("test-report", STUDENT.report, view, failures)
    with failures.optional(Part.ARTIFACT, "scorers"):
        if (analysis := view.read(ANALYSIS)) is not None:
            found = Analysis.from_json(json.loads(analysis), view.where(ANALYSIS))
            described = f"{about}: all on the same rows of {found.split}, with 95 % intervals"
            create_table_artifact(key="scorers", table=scorer_rows(found), description=described)
    with failures.optional(Part.ARTIFACT, "learning-curve"):
        if (curve := view.read_bytes(f"{STUDENT.folder}/{CURVE}")) is not None:
            # The image itself: Prefect's pages cannot read the run's folder.
            url = f"data:image/png;base64,{base64.b64encode(curve).decode()}"
            create_image_artifact(key="learning-curve", image_url=url, description=about)
    pointer = f"{FOLDER}/{view.name}.json"
    places = {"report-page": view.where(STUDENT.page)}
    if view.store.backend.read(pointer) is not None:
        places["model-pointer"] = view.store.where(pointer)
    for key, place in places.items():
        with failures.optional(Part.ARTIFACT, key):
            link = place if "://" in place else Path(place).absolute().as_uri()
            create_link_artifact(key=key, link=link, link_text=place, description=about)


def show_report(key: str, file: str, view: RunView, failures: Failures) -> None:
    """Create an artifact of a report, which is optional."""
    with failures.optional(Part.ARTIFACT, key):
        if (text := view.read(file)) is not None:
            create_markdown_artifact(key=key, markdown=text, description=f"Run {view.name}")


@contextlib.contextmanager
def explaining(name: str, flow: Literal["distill", "reinforce"]) -> Iterator[None]:
    """If the block fails, create an artifact with the error and the ways to continue."""
    try:
        yield
    except Exception as e:
        try:
            quoted = "\n".join(f"> {plain(line)}" for line in str(e).splitlines() if line.strip())
            text = (
                f"# Run {plain(name)} did not finish\n\n{quoted or '> (no message)'}\n\n"
                "## How to continue\n\n"
                "Fix what the message names, then do one of these; finished stages are kept, and appear as "
                "Cached:\n\n"
                "- **Retry** on this page, if a worker executes its runs;\n"
                f"- `prefect flow-run retry {runtime.flow_run.id} --entrypoint flows.distill.{flow}`, in the "
                "directory it was started from;\n"
                f"- the same `understudy {'run' if flow == 'distill' else flow}` command again.\n"
            )
            create_markdown_artifact(key=FAILED, markdown=text, description=f"Run {name}")
        except Exception as other:  # the error of the run matters more
            log.warning("the failure could not be shown in Prefect: %s", other)
        raise
