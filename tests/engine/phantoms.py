"""Small trainings: cases in memory, configurations of tiny networks."""

import numpy as np
import torch

from tumorseg.engine.feed import Data, open_feeds
from tumorseg.engine.learner import Learner
from tumorseg.engine.loop import Fit
from tumorseg.engine.observers import Observer
from tumorseg.engine.ranks import ALONE
from tumorseg.losses.presets import loss_preset
from tumorseg.ops.cropping import box_slices, inside
from tumorseg.schema.augmentation import AugmentationSpec
from tumorseg.schema.networks import PlainUNet
from tumorseg.schema.optimizers import AdamW, PolySchedule
from tumorseg.schema.plan import Configuration, InferenceSpec, SamplingSpec
from tumorseg.schema.preprocessing import NoNormalization, ResamplingSpec
from tumorseg.schema.targets import Targets, num_inputs
from tumorseg.schema.training import Precisions, Training

CLASSES = Targets(label_values=(0, 1, 4), label_names=("background", "edema", "core"), ignore_value=None)
REGIONS = CLASSES.model_copy(
    update={"region_names": ("whole", "core"), "regions": ((1, 2), (2,)), "region_values": (1, 4)}
)
NUM_CHANNELS = 2


class Cases:
    """Cases in memory, read as the store is read."""

    def __init__(self, arrays, previous=None):
        self.arrays = arrays
        self.previous = previous or {}
        self.boxes = []

    @property
    def case_ids(self):
        return tuple(self.arrays)

    def shape(self, case_id):
        return self.arrays[case_id][1].shape

    def supervised_classes(self, case_id):
        has_ignored = any((segmentation < 0).any() for _, segmentation in self.arrays.values())
        return tuple(range(int(self.arrays[case_id][1].max()) + 1)) if has_ignored else ()

    def num_locations(self, case_id, class_index):
        is_known = class_index > 0 or self.supervised_classes(case_id)
        return int((self.arrays[case_id][1] == class_index).sum()) if is_known else 0

    def num_voxels(self, case_id, class_index):
        return int((self.arrays[case_id][1] == class_index).sum())

    def location(self, case_id, class_index, number):
        return tuple(np.argwhere(self.arrays[case_id][1] == class_index)[number].tolist())

    def read(self, case_id, box):
        self.boxes.append((case_id, box))
        image, segmentation = self.arrays[case_id]
        index = box_slices(inside(box, segmentation.shape))
        return image[index].copy(), segmentation[index].copy()

    def read_previous(self, case_id, box):
        return self.previous[case_id][box_slices(inside(box, self.shape(case_id)))]


def tumour(shape, seed=0):
    """Return an image (2, Z, Y, X) and class indices: an edema with a core, both bright, in noise."""
    rng = np.random.default_rng(seed)
    centre = [rng.uniform(0.35, 0.65) * size for size in shape]
    grid = np.indices(shape)
    distance = np.sqrt(sum(((axis - c) / size) ** 2 for axis, c, size in zip(grid, centre, shape, strict=True)))
    segmentation = (distance < 0.3).astype(np.int8) + (distance < 0.15)
    image = np.stack([segmentation > 0, segmentation == 2]) + rng.normal(size=(2, *shape)) * 0.2
    return image.astype(np.float32), segmentation.astype(np.int8)


def cases_of(count=2, shape=(13, 17, 15), seed=0):
    return Cases({f"case {number}": tumour(shape, seed + number) for number in range(count)})


def configuration_of(num_axes=3, edge=8, features=(4, 6), targets=CLASSES, transforms=(), **changes):
    fields = {
        "spacing_mm": (1.0,) * num_axes,
        "median_shape": (16,) * num_axes,
        "patch_size": (edge,) * num_axes,
        "batch_size": 2,
        "normalization": (NoNormalization(),) * NUM_CHANNELS,
        "resampling": ResamplingSpec(),
        "network": PlainUNet(
            features_per_stage=features,
            strides=((1,) * num_axes, (2,) * num_axes),
            kernel_sizes=((3,) * num_axes,) * 2,
            decoder_convs_per_stage=(1,),
            convs_per_stage=(1, 1),
        ),
        "augmentation": AugmentationSpec(transforms=transforms),
        "loss": loss_preset(
            "dice_ce", has_regions=targets.has_regions, batch_dice=False, deep_supervision_weights=(1.0,)
        ),
        "optimizer": AdamW(lr=1e-2),
        "schedule": PolySchedule(),
        "sampling": SamplingSpec(),
        "inference": InferenceSpec(mirroring_axes=tuple(range(num_axes))),
    }
    return Configuration(**(fields | changes))


def training_of(epochs=2, iterations_per_epoch=3, **changes):
    fields = {"validation_iterations": 2, "precision": Precisions(cpu="fp32", cuda="fp32")} | changes
    return Training(epochs=epochs, iterations_per_epoch=iterations_per_epoch, **fields)


def learner_of(configuration=None, training=None, targets=CLASSES, ranks=ALONE):
    return Learner(
        configuration or configuration_of(),
        training or training_of(),
        num_channels=num_inputs(configuration or configuration_of(), targets),
        targets=targets,
        device="cpu",
        ranks=ranks,
    )


class Heard(Observer):
    """Calls functions with what a training reports."""

    def __init__(self, on_iteration=None, on_epoch=None, on_stop=None, on_skip=None):
        self._functions = {"iteration": on_iteration, "epoch": on_epoch, "stop": on_stop, "skip": on_skip}

    def _call(self, name, *values):
        if self._functions[name] is not None:
            self._functions[name](*values)

    def on_step(self, step):
        self._call("iteration", step.iteration + 1, step.result.total)

    def on_fault(self, step):
        self._call("skip", step.iteration, step.result.total, step.case_ids)

    def on_epoch(self, log, state, is_best):
        self._call("epoch", log, state, is_best)

    def on_stop(self, state):
        self._call("stop", state)


def fit_of(
    configuration=None,
    training=None,
    data=None,
    targets=CLASSES,
    should_stop=lambda: False,
    ranks=ALONE,
    num_workers=None,
    **heard,
):
    configuration, training = configuration or configuration_of(), training or training_of()
    learner = learner_of(configuration, training, targets, ranks)
    data = data or Data(cases_of(2), cases_of(1, seed=9))
    feeds = open_feeds(data, configuration, training, learner, num_workers=num_workers)
    return Fit(learner, training, feeds, (Heard(**heard),), should_stop)


def weights_of(learner):
    return torch.cat([value.flatten() for value in learner.network.state_dict().values()]).clone()


def batch_of(seed=0, edge=8, num_axes=3):
    generator = torch.Generator().manual_seed(seed)
    segmentations = torch.randint(0, 3, (2, *(edge,) * num_axes), generator=generator)
    images = torch.stack([segmentations > 0, segmentations == 2], dim=1).float()
    return images + 0.1 * torch.randn(images.shape, generator=generator), segmentations


def gone_on(fit, after):
    """Return a training that ran to its end, and one that was stopped after so many steps and gone on with."""
    whole = fit()
    assert whole.run()
    first, states = fit(), []
    first.should_stop = lambda: first.progress.iteration == after
    first.observers[0]._functions["stop"] = states.append
    assert not first.run()
    second = fit()
    second.restore(states[0])
    assert second.run()
    assert torch.equal(weights_of(whole.learner), weights_of(second.learner))
    return whole, second
