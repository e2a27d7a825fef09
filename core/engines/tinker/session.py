"""Train on a server: steps and saves are sent at once, and their results waited for later."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from core import durable
from core.engines import (
    CROSS_ENTROPY,
    AdamParams,
    Checkpoint,
    Datum,
    EngineIdentity,
    LoraSpec,
    Loss,
    SamplerRef,
    SaveLabel,
    StateRef,
    StepResult,
)
from core.engines.tinker.checkpoints import FILE, Saved, digest_of, run_of, sampler_ref, save_name
from core.engines.tinker.service import Client, load_sdk, plain, sdk_version, settle
from core.errors import DataError, StageError, UnderstudyError

log = logging.getLogger(__name__)

SAMPLER_TTL_S = 3600
"""Lifetime of weights that are saved for a sampler only: the shortest that servers accept."""
_NORM_METRICS = ("grad_norm", "total_grad_norm")
# The server adds up in its own precision and order.
_LOSS_TOLERANCE = 1e-3


@dataclass(slots=True, eq=False)
class SubmittedStep:
    """A step in flight: forward and backward, and the update, were sent together."""

    session: TinkerSession
    step: int
    batch: Sequence[Datum]
    loss: Loss
    learning_rate: float
    forward: Future[Any]
    update: Future[Any]
    value: StepResult | None = None

    def result(self) -> StepResult:
        """Wait for the update. Raises SessionLost or StageError, after which the session is over."""
        if self.value is None:
            self.value = self.session.finish(self)
        return self.value


class TinkerSession:
    """Implements core.engines.Session; one thread at a time.

    Saves are kept for `ttl_s` seconds; None: forever. After any failure the session is over: every request
    in flight is canceled, and every later call raises the same error. A new session continues from the last
    saved state.
    """

    def __init__(
        self,
        client: Client,
        identity: EngineIdentity,
        model: str,
        lora: LoraSpec,
        ttl_s: int | None,
        tip: Checkpoint | None,
    ) -> None:
        self._client, self._identity, self._model, self._lora = client, identity, model, lora
        self.tip, self._ttl_s, self._server = tip, ttl_s, str(identity.server)
        self._steps: list[SubmittedStep] = []
        self._saves: list[Future[Any]] = []
        self._over: UnderstudyError | None = None
        self._warned = False

    def submit(
        self, batch: Sequence[Datum], adam: AdamParams, *, step: int, loss: Loss = CROSS_ENTROPY
    ) -> SubmittedStep:
        """Send forward, backward and the update, without waiting. Raises DataError for an empty batch."""
        self._require_open()
        if not batch:
            raise DataError(f"the batch of step {step} is empty; there is nothing to train on")
        # Both are built before either is sent: a gradient without its update would join the next step's.
        # Adam's settings and both clipping bounds are sent: SDK and servers have other defaults.
        data = [_datum(each, loss) for each in batch]
        params = load_sdk().types.AdamParams(**asdict(adam))
        bounds = {"clip_low_threshold": loss.clip_low, "clip_high_threshold": loss.clip_high}
        self.tip = None
        forward = plain(self._client.sdk.forward_backward(data, loss.name, bounds if loss.clips else None))
        durable.failpoint(durable.FORWARD_SENT, str(step))
        update = plain(self._client.sdk.optim_step(params))
        submitted = SubmittedStep(self, step, batch, loss, adam.learning_rate, forward, update)
        self._steps.append(submitted)
        return submitted

    def finish(self, submitted: SubmittedStep) -> StepResult:
        """Wait until a step was applied, and return its result."""
        self._require_open()
        output = self._wait(submitted.forward, f"step {submitted.step}, forward and backward")
        loss = self._loss(output, submitted)
        norm = grad_norm(self._wait(submitted.update, f"step {submitted.step}, update"))
        self._steps.remove(submitted)
        tokens = sum(len(each.tokens) for each in submitted.batch)
        return StepResult(loss=loss, grad_norm=norm, tokens=tokens)

    def save(self, folder: Path, *, step: int, label: SaveLabel | None = None) -> Checkpoint:
        """Save state and sampler's weights on the server, and record their paths in `folder`.

        Both are sent after the steps in flight, without waiting for those or for each other. Raises
        SessionLost, StageError.
        """
        self._require_open()
        name, client = save_name(label, step), self._client.sdk
        state = plain(client.save_state(name, ttl_seconds=self._ttl_s))
        weights = plain(client.save_weights_for_sampler(name, ttl_seconds=self._ttl_s))
        self._finish_steps(state, weights)
        ref = StateRef(self._wait(state, f"the state after step {step}").path)
        sampler = sampler_ref(self._wait(weights, f"the sampler's weights after step {step}").path)
        saved = Saved(
            server=self._server,
            model=self._model,
            run=run_of(ref.location),
            name=name,
            step=step,
            digest=digest_of(self._server, ref),
            state=ref.location,
            sampler=sampler.location,
            ttl_seconds=self._ttl_s,
            lora=self._lora,
            sdk=sdk_version(),
        )
        saved.write(folder / FILE)
        self.tip = Checkpoint(self._identity, step, saved.digest, *saved.refs())
        return self.tip

    def save_weights_for_sampler(
        self, folder: Path, *, step: int, label: SaveLabel | None = None
    ) -> SamplerRef:
        """Save the sampler's weights on the server, for an hour; writes nothing into `folder`."""
        self._require_open()
        name = save_name(label, step)
        weights = plain(self._client.sdk.save_weights_for_sampler(name, ttl_seconds=SAMPLER_TTL_S))
        self._finish_steps(weights)
        return sampler_ref(self._wait(weights, f"the weights to sample step {step} with").path)

    def close(self) -> None:
        """Cancel all requests in flight."""
        self._settle()
        self._over = self._over or StageError("this training session was closed; open another")

    def _finish_steps(self, *saves: Future[Any]) -> None:
        """Wait for all steps: a failed step has a better error than the save that fails because of it."""
        self._saves = list(saves)
        for each in list(self._steps):
            each.result()

    def _wait(self, future: Future[Any], what: str) -> Any:
        try:
            return self._client.service.result(future, what)
        except Exception as error:
            raise self._end(self._client.failed(error, what)) from error

    def _loss(self, output: Any, submitted: SubmittedStep) -> float:
        """Return the weighted sum over the log-probabilities that the server returns, or else its loss."""
        reported = (output.metrics or {}).get("loss:sum")
        own = _weighted_sum(output.loss_fn_outputs, submitted.batch, submitted.loss)
        loss = reported if own is None else own
        if loss is None:
            raise self._end(
                StageError("the server gives neither a loss nor log-probabilities; it cannot be trained on")
            )
        if reported is not None and own is not None and not self._warned:
            self._warned = abs(reported - own) > _LOSS_TOLERANCE * max(1.0, abs(own))
            if self._warned:
                log.warning(
                    "%s: the server's loss at step %d is %g, the weighted sum over its log-probabilities %g: "
                    "it normalizes loss and gradients in its own way; losses here are the weighted sum",
                    *(self._server, submitted.step, reported, own),
                )
        if not math.isfinite(loss):
            raise self._end(
                StageError(
                    f"training stopped at step {submitted.step}: loss {loss}; its update is in the weights "
                    "on the server, so resume from the last save, with a learning rate below "
                    f"{submitted.learning_rate:g}"
                )
            )
        return float(loss)

    def _end(self, error: UnderstudyError) -> UnderstudyError:
        self._over = error
        self._settle()
        return error

    def _settle(self) -> None:
        settle([future for each in self._steps for future in (each.forward, each.update)])
        settle(self._saves)
        self._steps, self._saves = [], []

    def _require_open(self) -> None:
        if self._over is not None:
            raise self._over


def _datum(datum: Datum, loss: Loss) -> Any:
    types, size = load_sdk().types, [len(datum.tokens)]
    if loss.is_policy:  # has no weights there, but its terms are proportional to the advantage
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


def _weighted_sum(outputs: Sequence[Any], batch: Sequence[Datum], loss: Loss) -> float | None:
    """Return the sum of weighted terms (nats); None if the server returns no log-probabilities."""
    if len(outputs) != len(batch) or any("logprobs" not in output for output in outputs):
        return None
    terms = []
    for output, datum in zip(outputs, batch, strict=True):
        given: Sequence[tuple[float, ...]] = [()] * len(datum.weights)
        if loss.is_policy:
            given = list(zip(datum.logprobs, datum.advantages, strict=True))
        for logprob, weight, at in zip(output["logprobs"].data, datum.weights, given, strict=True):
            if weight:
                terms.append(loss.term(logprob, *at) * weight)
    return math.fsum(terms)


def grad_norm(response: Any) -> float | None:
    """Return the gradient's norm before clipping, if the server reports it."""
    for name, value in (getattr(response, "metrics", None) or {}).items():
        # Some servers (SkyRL 0.3) put their own name before it, and how it was summed up after it.
        bare = name.rpartition("/")[2].partition(":")[0]
        if bare in _NORM_METRICS and value is not None and math.isfinite(value):
            return float(value)
    return None
