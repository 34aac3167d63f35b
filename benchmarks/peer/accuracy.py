"""A whole training of nnU-Net on the CPU, its schedule set to end after some epochs, and its validation; run by the python of nnunetv2 2.8.1.

    python benchmarks/peer/accuracy.py --dataset 4 --fold 0 --epochs 40 --iterations 20 --validation 4 --seed 0

The dataset is planned and preprocessed; the folders are those of nnU-Net's variables. Trainer, augmentation and schedule are its own; only
their lengths are set. The last line tells how long the epochs took and where the masks of held-out cases lie.
"""

import argparse
import json
import multiprocessing
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.run.run_training import get_trainer_from_args

CONFIGURATION = "3d_fullres"


def open_trainer(options: argparse.Namespace) -> Any:
    """Return nnU-Net's default trainer with the lengths that were asked for."""
    torch.set_num_threads(multiprocessing.cpu_count())
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    trainer = get_trainer_from_args(options.dataset, CONFIGURATION, options.fold, device=torch.device("cpu"))
    trainer.num_epochs = options.epochs
    trainer.num_iterations_per_epoch = options.iterations
    trainer.num_val_iterations_per_epoch = options.validation
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True, help="number of nnU-Net's dataset")
    parser.add_argument("--fold", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--iterations", type=int, required=True, help="in an epoch")
    parser.add_argument("--validation", type=int, required=True, help="batches of held-out patches after an epoch")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    trainer = open_trainer(options)
    began = time.perf_counter()
    trainer.run_training()
    seconds = time.perf_counter() - began
    trainer.perform_actual_validation(False)
    print("RESULT" + json.dumps({"seconds": seconds, "masks": str(Path(trainer.output_folder) / "validation")}))


if __name__ == "__main__":
    main()
