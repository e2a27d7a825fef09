"""The stage that bundles a baseline: what `predict` needs to answer with it."""

from __future__ import annotations

import shutil
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import numpy as np

from core.config import CONTENT, MODEL, Config, ConfigSection
from core.errors import CLASSICAL, StageError
from core.evaluation.baselines import MODELS
from core.evaluation.decision import Decided
from core.evaluation.embeddings import encode, encoder_digest, find_encoder
from core.evaluation.predictions import Predictions
from core.export import bundle as files
from core.export.bundle import BaselineBundle, BaselineContents, BundleColumns, EncoderReference, Labels
from core.export.stage import BUNDLE
from core.records import iter_examples
from core.report import and_, name_of, number
from core.stage import StageIO, stage

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

_CHECKED_ROWS = 32
_TOLERANCE = 1e-5
"""Of a probability; encoders add in another order where texts are padded otherwise."""


class BaselineBundleSettings(ConfigSection):
    """What decides a baseline's bundle, besides the fitted model and its decision."""

    scorer: str
    encoder: Annotated[str | None, CONTENT, MODEL]
    dataset: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    text_column: str
    id_column: str | None

    @classmethod
    def of(cls, config: Config, scorer: str) -> BaselineBundleSettings:
        """The part of the config that decides the bundle of one of CLASSICAL."""
        data = config.data
        return cls(
            scorer=scorer,
            encoder=config.baselines.encoder if scorer.startswith("embedding") else None,
            dataset=data.name,
            positive=data.positive,
            negative=data.negative,
            text_column=data.text_column,
            id_column=data.id_column,
        )


def _content(settings: BaselineBundleSettings, context: RunContext | None) -> dict[str, str]:
    encoder = settings.encoder
    return {"encoder": "none" if encoder is None else encoder_digest(find_encoder(encoder))}


@stage(
    "bundle_baseline",
    version=1,
    inputs=("split", "baseline", "decision"),
    content=_content,
    publishes={f"{BUNDLE}/": f"baseline_phase/{{settings.scorer}}/{BUNDLE}/"},
    shows=f"baseline_phase/{{settings.scorer}}/{BUNDLE}/{files.CARD}",
    switch="export",
    slot="bundle_baseline/{settings.scorer}",
    label="bundle {settings.scorer}",
)
def bundle_baseline(settings: BaselineBundleSettings, io: StageIO) -> dict[str, float]:
    """Write the bundle of a baseline, and check it on the first rows of val.

    Raises StageError if the bundle does not answer as the baseline was measured.
    """
    folder, title = io.out / BUNDLE, str(CLASSICAL[settings.scorer])
    shutil.copytree(io.input("baseline") / MODELS / settings.scorer, folder / files.MODEL)
    shutil.copy(io.input("decision") / files.DECISION, folder / files.DECISION)
    encoder = None
    if settings.encoder is not None:
        encoder = EncoderReference(
            spec=settings.encoder, digest=encoder_digest(find_encoder(settings.encoder))
        )
    contents = BaselineContents(
        scorer=settings.scorer,
        title=title,
        encoder=encoder,
        labels=Labels(settings.positive, settings.negative),
        columns=BundleColumns(settings.text_column, settings.id_column),
        files={},
    )
    decision = Decided.read(folder / files.DECISION)
    (folder / files.CARD).write_text(_card(settings, contents, decision), encoding="utf-8")
    files.write_contents(folder, contents)
    opened = files.open_any(folder)
    assert isinstance(opened, BaselineBundle), "the contents are a baseline's"
    texts = [e.text for e in islice(iter_examples(io.input("split") / "val.csv"), _CHECKED_ROWS)]
    source = opened.encoder()
    answered = opened.model.probability(texts, None if source is None else encode(source, texts))
    measured = Predictions.read(io.input("baseline") / f"{settings.scorer}_val.jsonl").probability[
        : len(texts)
    ]
    largest = float(np.max(np.abs(answered - measured), initial=0.0))
    if largest > _TOLERANCE:
        raise StageError(f"the bundle of {title} answers up to {largest:.2g} otherwise than it was measured")
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    return {"bytes": size, "rows_checked": len(texts), "largest_difference": largest}


def _card(settings: BaselineBundleSettings, contents: BaselineContents, decision: Decided) -> str:
    """The bundle's README.md: what the model is, how it decides, and how to use it."""
    needs = "" if contents.encoder is None else f" It needs the encoder `{contents.encoder.spec}`."
    threshold = decision.threshold.value
    decides = "It has no threshold" if threshold is None else f"Its threshold is {number(threshold)}"
    measured = and_([f"{name_of(name)} {number(decision.metrics[name])}" for name in ("macro_f1", "auroc")])
    return (
        f"# Model card: {contents.title} of {settings.dataset}\n\n"
        f"A baseline that was fitted to the gold labels of train.{needs} {decides} "
        f"({decision.threshold.reason}). On val, on which it was chosen, it has {measured}; "
        "the report of its run has the results on test.\n\n"
        f"The positive class is {', '.join(settings.positive)}; the negative one is "
        f"{', '.join(settings.negative)}. It gives no reasons.\n\n"
        '    understudy predict --model <this folder> --text "..."\n'
    )
