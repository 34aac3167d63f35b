"""nnU-Net's training steps on the CPU, with a clock around each; run by the python of nnunetv2 2.8.1.

    python benchmarks/peer/training.py steps --iterations 12 --warm-up 3
    python benchmarks/peer/training.py network --iterations 4 --warm-up 1

`steps`: its own trainer, data loaders and whole augmentation on fold 0, in as many processes as the variable nnUNet_n_proc_DA says.
`network`: forward and backward pass of its network alone, on noise. The dataset is planned and preprocessed; the folders are those of
nnU-Net's variables. The last line tells what each timed step took.

It lies in a folder of its own: python finds modules beside a script first, and would take benchmarks/statistics.py for its own.
"""

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from nnunetv2.run.run_training import get_trainer_from_args

CONFIGURATION = "3d_fullres"
FOLD = 0
Found = dict[str, Any]


def open_trainer(dataset: str) -> Any:
    """Return nnU-Net's default trainer, as `nnUNetv2_train -device cpu` makes it."""
    torch.set_num_threads(multiprocessing.cpu_count())
    return get_trainer_from_args(dataset, CONFIGURATION, FOLD, device=torch.device("cpu"))


def take_steps(trainer: Any, count: int) -> Found:
    """Take steps as its loop does, and return what each took, its batch included."""
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    loaders = (trainer.dataloader_train, trainer.dataloader_val)
    wait_until_filled(loaders)
    steps, waiting = [], []
    try:
        for _ in range(count):
            began = time.perf_counter()
            batch = next(trainer.dataloader_train)
            read = time.perf_counter()
            trainer.train_step(batch)
            steps.append(time.perf_counter() - began)
            waiting.append(read - began)
    finally:
        for loader in loaders:
            loader._finish()
    return {"steps_s": steps, "waiting_s": waiting, "batch_size": trainer.batch_size}


def wait_until_filled(loaders: Sequence[Any]) -> None:
    """Wait until the processes that read ahead have read as many batches as they keep, as they have for most of a training."""
    for loader in loaders:
        while not (loader._queue.full() and loader.results_loop_queue.full()):
            time.sleep(0.1)


def pass_noise(trainer: Any, count: int) -> Found:
    """Run the network forward and backward, and return what each pair of passes took."""
    trainer.initialize()
    trainer.set_deep_supervision_enabled(True)
    trainer.network.train()
    patch = trainer.configuration_manager.patch_size
    images = torch.randn(trainer.batch_size, trainer.num_input_channels, *patch)
    steps = []
    for _ in range(count):
        trainer.network.zero_grad(set_to_none=True)
        began = time.perf_counter()
        outputs = trainer.network(images)
        torch.stack([output.square().sum() for output in outputs]).sum().backward()
        steps.append(time.perf_counter() - began)
    return {"steps_s": steps, "waiting_s": [0.0] * count, "batch_size": trainer.batch_size}


PARTS: dict[str, Callable[[Any, int], Found]] = {"steps": take_steps, "network": pass_noise}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--dataset", default="4", help="number of nnU-Net's dataset")
    parser.add_argument("--iterations", type=int, required=True, help="timed steps")
    parser.add_argument("--warm-up", type=int, required=True, help="steps before them")
    options = parser.parse_args()
    found = PARTS[options.part](open_trainer(options.dataset), options.warm_up + options.iterations)
    for name in ("steps_s", "waiting_s"):
        found[name] = found[name][options.warm_up :]
    print("RESULT" + json.dumps(found | {"threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
