"""Predictions of new texts: `core.predict.load(model)(texts)`, and the options of predicting a table.

The student is imported at its first use, which takes seconds; the options are needed for `--help`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from core.export import Weights

if TYPE_CHECKING:
    from core.predict.loaded_student import LoadedModel, Prediction, Student, load

__all__ = [
    "STANDARD",
    "About",
    "InputFormat",
    "LoadedModel",
    "OutputFormat",
    "PredictOptions",
    "Prediction",
    "Runner",
    "Student",
    "load",
]

STANDARD = "-"
"""Standard input or output."""
InputFormat = Literal["auto", "csv", "tsv", "jsonl", "parquet", "lines"]
OutputFormat = Literal["csv", "jsonl", "parquet"]
Runner = Literal["threads", "dask", "ray"]


@dataclass(frozen=True, slots=True)
class About:
    """The help text of an option, and how it is offered."""

    help: str
    location: Literal["read", "written"] | None = None
    """Whether it is a path or URL that is read or written."""
    command: bool = True
    """Whether the command has it too."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Which texts are predicted with which student, and how.

    Each field is an option of `understudy predict` and a parameter of its flow.
    """

    input: Annotated[
        str, About("The table, a path or URL, or - for standard input, one text per line.", "read")
    ] = STANDARD
    output: Annotated[
        str,
        About("A .csv, .jsonl or .parquet, a path or URL, or - for standard output, JSON lines.", "written"),
    ] = STANDARD
    model: Annotated[str, About("latest, a run's name, or a bundle's folder or URL.", "read")] = "latest"
    root: Annotated[str, About("Where published runs are.", "written")] = "artifacts"
    format: Annotated[InputFormat, About("Format of the input; auto goes by its ending.")] = "auto"
    output_format: Annotated[
        OutputFormat | None, About("Format of the output; by default that of its ending.")
    ] = None
    text_column: Annotated[
        str | None, About("The column of the text; by default that of the training data, or else text.")
    ] = None
    id_column: Annotated[
        str | None, About("The column of the id; by default the id is a hash of the text.")
    ] = None
    encoding: Annotated[str, About("Encoding of the input.")] = "utf-8"
    separator: Annotated[str | None, About("Of CSV columns; by default a comma, of TSV a tab.")] = None
    quotes: Annotated[bool, About("Whether double quotes enclose fields.")] = True
    reasoning: Annotated[bool, About("Write the reasoning and the rules it cites; far slower.")] = False
    weights: Annotated[
        Weights,
        About("Adapter over its base model, the bundle's merged weights, or the training server's own."),
    ] = "adapter"
    base_model: Annotated[
        str | None, About("Where the base model, or a baseline's encoder, is, if not where it was.", "read")
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], About("Where a local model runs.")] = "auto"
    threads: Annotated[int | None, About("CPU threads of each process.")] = None
    runner: Annotated[
        Runner | None,
        About("Run as a Prefect flow in shards: threads in this process, dask or ray in others."),
    ] = None
    workers: Annotated[
        int, About("Processes of dask or ray on this machine, each with a model of its own.")
    ] = 1
    address: Annotated[
        str | None,
        About(
            "A Dask or Ray cluster instead; its workers must have access to the bundle's and the output's "
            "folder.",
            command=False,
        ),
    ] = None
    overwrite: Annotated[bool, About("Replace the output if it exists.")] = False
    restart: Annotated[bool, About("Discard what an unfinished job left next to the output.")] = False
    fail_on_error: Annotated[
        bool, About("Fail if any row has an error; the output is written all the same.")
    ] = False


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from core.predict import loaded_student

    return getattr(loaded_student, name)
