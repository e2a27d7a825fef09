"""A training session on a server: steps and saves are sent at once and waited for later."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core import failpoints
from core.engines.base import (
    AdamParams,
    Checkpoint,
    Datum,
    EngineIdentity,
    LoraSpec,
    SamplerRef,
    SaveLabel,
    StateRef,
    StepResult,
    Usage,
)
from core.engines.losses import CROSS_ENTROPY, Loss
from core.engines.tinker import sdk
from core.engines.tinker.paths import SaveName, run_of, sampler_ref
from core.engines.tinker.saved import Saved, digest_of
from core.engines.tinker.service import Client
from core.engines.tinker.usage import Meter
from core.engines.tinker.waiting import plain, settle
from core.errors import DataError, StageError, UnderstudyError

log = logging.getLogger(__name__)

SAMPLER_TTL_S = 3600
"""Lifetime of weights that are saved for a sampler only: the shortest that servers accept."""
_LOSS_METRIC = "loss:sum"
_NORM_METRICS = ("grad_norm", "total_grad_norm")
# The server adds up in its own precision and order.
_SAME_LOSS = 1e-3


@dataclass(frozen=True, slots=True)
class Course:
    """What a session trains, and how long its saves live."""

    identity: EngineIdentity
    model: str
    lora: LoraSpec
    ttl_s: int | None


@dataclass(slots=True, eq=False)
class Submitted:
    """A step on its way: both its requests were sent together."""

    session: TinkerSession
    step: int
    batch: Sequence[Datum]
    loss: Loss
    rate: float
    forward: Future[Any]
    update: Future[Any]
    value: StepResult | None = None

    def result(self) -> StepResult:
        """Wait for the update. Raises SessionLost, StageError; then the session is over."""
        if self.value is None:
            self.value = self.session.finish(self)
        return self.value


class TinkerSession:
    """Implements core.engines.base.Session; one thread at a time.

    After any failure the session is over: every request on its way is let go of, and every later
    call raises the same error. A new one from the last saved state goes on.
    """

    def __init__(self, client: Client, course: Course, meter: Meter, tip: Checkpoint | None = None) -> None:
        self._client, self._course, self._meter = client, course, meter
        self._tip = tip
        self._steps: list[Submitted] = []
        self._saves: list[Future[Any]] = []
        self._over: UnderstudyError | None = None
        self._said_other_loss = False

    @property
    def tip(self) -> Checkpoint | None:
        return self._tip

    @property
    def usage(self) -> Usage:
        """Tokens sent to training."""
        return self._meter.usage

    def submit(
        self, batch: Sequence[Datum], adam: AdamParams, *, step: int, loss: Loss = CROSS_ENTROPY
    ) -> Submitted:
        """Send forward, backward and the update, and wait for none of them.

        Raises DataError for an empty batch; what fails later comes out of `result`.
        """
        self._refuse_over()
        if not batch:
            raise DataError(f"the batch of step {step} is empty; there is nothing to train on")
        # Both are made before either is sent: a gradient without its update would join the next step's.
        data, params = [_datum(each, loss) for each in batch], _adam(adam)
        self._tip = None
        forward = plain(self._client.sdk.forward_backward(data, loss.name, _clips(loss)))
        failpoints.hit(failpoints.FORWARD_SENT, str(step))
        update = plain(self._client.sdk.optim_step(params))
        self._meter.add(Usage(trained=sum(len(each.tokens) for each in batch)))
        submitted = Submitted(self, step, batch, loss, adam.learning_rate, forward, update)
        self._steps.append(submitted)
        return submitted

    def finish(self, submitted: Submitted) -> StepResult:
        """A submitted step's result, once it was applied."""
        self._refuse_over()
        output = self._wait(submitted.forward, f"step {submitted.step}, forward and backward")
        loss = self._loss(output, submitted)
        norm = _norm(self._wait(submitted.update, f"step {submitted.step}, update"))
        self._steps.remove(submitted)
        tokens = sum(len(each.tokens) for each in submitted.batch)
        return StepResult(loss=loss, grad_norm=norm, tokens=tokens)

    def save(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> Checkpoint:
        """Save state and sampler's weights on the server, and write where they lie into `folder`.

        Both are sent behind the steps on their way, without waiting for those or for each other.
        Raises SessionLost, StageError.
        """
        self._refuse_over()
        name = SaveName.new(label, step)
        asked = {"ttl_seconds": self._course.ttl_s}
        state = plain(self._client.sdk.save_state(str(name), **asked))
        sampler = plain(self._client.sdk.save_weights_for_sampler(str(name), **asked))
        self._saves = [state, sampler]
        # A step that failed says why better than the save that fails for it.
        for each in list(self._steps):
            each.result()
        refs = (
            StateRef(self._wait(state, f"the state after step {step}").path),
            sampler_ref(self._wait(sampler, f"the sampler's weights after step {step}").path),
        )
        self._saves = []
        self._tip = self._written(folder, name, *refs)
        return self._tip

    def save_weights_for_sampler(
        self, folder: Path, *, step: int, label: SaveLabel | None = None
    ) -> SamplerRef:
        """Save the sampler's weights on the server, for an hour; writes nothing into `folder`."""
        self._refuse_over()
        name = SaveName.new(label, step)
        saved = plain(self._client.sdk.save_weights_for_sampler(str(name), ttl_seconds=SAMPLER_TTL_S))
        self._saves = [saved]
        for each in list(self._steps):
            each.result()
        ref = sampler_ref(self._wait(saved, f"the weights to sample step {step} with").path)
        self._saves = []
        return ref

    def close(self) -> None:
        """Let go of all that is on its way."""
        self._settle()
        self._over = self._over or StageError("this training session was closed; open another")

    def _written(self, folder: Path, name: SaveName, state: StateRef, sampler: SamplerRef) -> Checkpoint:
        course = self._course
        saved = Saved(
            server=str(course.identity.server),
            model=course.model,
            run=run_of(state.location),
            name=str(name),
            step=name.step,
            digest=digest_of(str(course.identity.server), state),
            state=state.location,
            sampler=sampler.location,
            ttl_seconds=course.ttl_s,
            lora=course.lora,
            sdk=sdk.load().version,
        )
        saved.write(folder)
        return saved.checkpoint(course.identity)

    def _wait(self, future: Future[Any], what: str) -> Any:
        try:
            return self._client.service.watch.result(future, what)
        except Exception as error:
            raise self._ended(self._client.failed(error, what)) from error

    def _loss(self, output: Any, submitted: Submitted) -> float:
        """The loss as this project means it, from the log-probabilities where the server gives them."""
        told = (output.metrics or {}).get(_LOSS_METRIC)
        own = _weighted(output.loss_fn_outputs, submitted.batch, submitted.loss)
        loss = told if own is None else own
        if loss is None:
            raise self._ended(
                StageError("the server gives neither a loss nor log-probabilities; it cannot be trained on")
            )
        if told is not None and own is not None:
            self._compare(float(told), own, submitted.step)
        if not math.isfinite(loss):
            raise self._ended(
                StageError(
                    f"training stopped at step {submitted.step}: loss {loss}; its update is in the weights "
                    "on the server, so go on from the last save, with a learning rate below "
                    f"{submitted.rate:g}"
                )
            )
        return float(loss)

    def _compare(self, told: float, own: float, step: int) -> None:
        if abs(told - own) <= _SAME_LOSS * max(1.0, abs(own)) or self._said_other_loss:
            return
        self._said_other_loss = True
        log.warning(
            "%s: the server's loss at step %d is %g, the weighted sum over its log-probabilities %g: it "
            "normalises in its own way, and its gradients too; losses here are the weighted sum",
            self._course.identity.server,
            step,
            told,
            own,
        )

    def _ended(self, error: UnderstudyError) -> UnderstudyError:
        self._over = error
        self._settle()
        return error

    def _settle(self) -> None:
        settle([future for each in self._steps for future in (each.forward, each.update)])
        settle(self._saves)
        self._steps, self._saves = [], []

    def _refuse_over(self) -> None:
        if self._over is not None:
            raise self._over


def _datum(datum: Datum, loss: Loss) -> Any:
    """The terms of a policy gradient are proportional to the advantage, so that this bears the weight."""
    types = sdk.load().module.types
    size = [len(datum.tokens)]
    if loss.is_policy:
        weighted = [w * a for w, a in zip(datum.weights, datum.advantages, strict=True)]
        inputs = {"logprobs": list(datum.logprobs), "advantages": weighted}
    else:
        inputs = {"weights": list(datum.weights)}
    tensors = {
        name: types.TensorData(data=values, dtype="float32", shape=size) for name, values in inputs.items()
    }
    targets = types.TensorData(data=list(datum.targets), dtype="int64", shape=size)
    return types.Datum(
        model_input=types.ModelInput.from_ints(list(datum.tokens)),
        loss_fn_inputs={"target_tokens": targets, **tensors},
    )


def _clips(loss: Loss) -> dict[str, float] | None:
    """Both bounds: a server's own defaults are others."""
    if not loss.clips:
        return None
    return {"clip_low_threshold": loss.clip_low, "clip_high_threshold": loss.clip_high}


def _adam(adam: AdamParams) -> Any:
    """All of them: the SDK's own defaults are others."""
    return sdk.load().module.types.AdamParams(**asdict(adam))


def _weighted(outputs: Sequence[Any], batch: Sequence[Datum], loss: Loss) -> float | None:
    """Sum of weighted terms (nats); None where the server gives no log-probabilities."""
    if len(outputs) != len(batch) or any("logprobs" not in output for output in outputs):
        return None
    return math.fsum(
        loss.term(logprob, *at) * weight
        for output, datum in zip(outputs, batch, strict=True)
        for logprob, weight, at in zip(output["logprobs"].data, datum.weights, _at(datum, loss), strict=True)
        if weight
    )


def _at(datum: Datum, loss: Loss) -> Sequence[tuple[float, ...]]:
    """What each position's term needs besides the log-probability now."""
    if not loss.is_policy:
        return [()] * len(datum.weights)
    return list(zip(datum.logprobs, datum.advantages, strict=True))


def _norm(response: Any) -> float | None:
    """The gradient's norm before clipping, where the server gives one."""
    for name, value in (getattr(response, "metrics", None) or {}).items():
        # Some servers (SkyRL 0.3) put their own name before it; how it was summed up stands behind.
        bare = name.rpartition("/")[2].partition(":")[0]
        if bare in _NORM_METRICS and value is not None and math.isfinite(value):
            return float(value)
    return None
