"""`portrait4d` whose dataset workers stop before the end of an item after the first `PORTRAIT4D_FAKE_ITEMS`.

A worker that is stopped goes on when its parent has died. So a build can be killed in the middle of an item however
slow the machine is that watches it: `python tests/support/run_build.py data ffhq ...`.
"""

import os
import time
from pathlib import Path

from portrait4d.cli.main import main
from preprocess.dataset.building.plan import Item
from preprocess.dataset.building.stage_options import Outcome
from preprocess.dataset.building.stages import Stages

_work = Stages.__call__
_num_begun = 0


def _work_and_wait(self: Stages, path: Path, item: Item) -> Outcome:
    global _num_begun
    _num_begun += 1
    parent = os.getppid()
    try:
        return _work(self, path, item)
    finally:  # a rejected file, too
        while _num_begun > int(os.environ["PORTRAIT4D_FAKE_ITEMS"]) and os.getppid() == parent:
            time.sleep(0.01)


Stages.__call__ = _work_and_wait  # workers run this file, too, before their work

if __name__ == "__main__":
    main()
