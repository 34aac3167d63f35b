"""nnU-Net's command for prediction from a model folder, with a clock around its passes; run by the python of nnunetv2 2.8.1.

    python benchmarks/peer/inference.py -i INPUTS -o OUTPUTS -m MODEL -f 0 -device cpu

Takes the arguments of `nnUNetv2_predict_from_modelfolder` and runs the same function, in the same number of processes. The last
line tells the seconds of all tiles, every mirrored view included, and how many tiles there were.

It lies in a folder of its own: python finds modules beside a script first, and would take benchmarks/statistics.py for its own.
"""

import json
import time
from typing import Any

# As in the command's own script: its processes import it anew, and that is part of what it takes.
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor, predict_entry_point_modelfolder

SECONDS: list[float] = []
"""Of each tile."""
views_of_a_tile = nnUNetPredictor._internal_maybe_mirror_and_predict


def timed_views(predictor: Any, tile: Any) -> Any:
    """Run all views of a tile, and note how long they took."""
    began = time.perf_counter()
    logits = views_of_a_tile(predictor, tile)
    SECONDS.append(time.perf_counter() - began)
    return logits


if __name__ == "__main__":
    nnUNetPredictor._internal_maybe_mirror_and_predict = timed_views
    predict_entry_point_modelfolder()
    print("RESULT" + json.dumps({"network_s": sum(SECONDS), "num_passes": len(SECONDS)}))
