"""Runs in the measuring Python: MediaPipe's expressions of pictures, and the identity of some, by foreign networks.

    python measure_pictures.py JOB.json ANSWER.json

A job is `{"pictures": [png], "sources": {png: png}}`: the pictures, and for those whose identity counts the picture
that they should resemble. The answer gives each picture its `blend` (52 coefficients by name, without `_neutral`), and
`identity`, the probability that it shows the person of its source; null where no face is found.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(question: Path, answer: Path) -> None:
    """Reads the job, writes the answer."""
    sys.path.insert(0, str(Path(os.environ["PORTRAIT4D_SHARED"]) / "tools"))
    from metrics import Metrics  # pyright: ignore[reportMissingImports]

    metrics, job = Metrics(), json.loads(question.read_text())
    known: dict[str, Any] = {}
    answers = {}
    for path, face in zip(job["pictures"], metrics.track(job["pictures"]), strict=True):
        source = job["sources"].get(path)
        if face is None:
            answers[path] = {"blend": None, "identity": None}
            continue
        if source is not None and source not in known:
            known[source] = metrics.embed(source)
        score = None if source is None else metrics.compare(known[source], metrics.embed(path, face))["score"]
        blend = {name: float(value) for name, value in face["blend"].items() if name != "_neutral"}
        answers[path] = {"blend": blend, "identity": None if score is None else float(score)}
    answer.write_text(json.dumps(answers))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
