"""Why a configuration's patch, batch and network are what they are, and what the next-best ones would need."""

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import JsonValue

from tumorseg.planning.choices.adaptation import Adaptation, extended
from tumorseg.planning.choices.augmentation import THICK_PATCH, is_thick
from tumorseg.planning.presets import PRESETS, Preset
from tumorseg.planning.search.lowres import SHARE_SEEN, STEP, Lowres
from tumorseg.planning.search.patch import MIN_BATCH_SIZE, Found, Grid, MemoryRule, build_topology
from tumorseg.planning.search.published_rule import feature_map_elements
from tumorseg.planning.search.topology import Topology
from tumorseg.schema.plan import Configuration, Reason

CASCADE_REASON = Reason(
    rule="3d_fullres once more, shown what 3d_lowres found: where a patch sees little of a case, that tells it where it is",
    alternative="3d_fullres alone, which needs no training of 3d_lowres first",
)

SPOILED_RULE = "the previous segmentation is spoiled now and then, so that its mistakes are not believed"

OTHER_OPTIMIZERS = {
    "sgd": "adamw: twice the optimizer's memory, sooner useful in short trainings",
    "adamw": "sgd: half of the optimizer's memory, for trainings of full length",
}
"""Next-best optimizer by name."""
OTHER_SCHEDULES = {
    "poly": "plateau: keeps the learning rate for as long as the training loss falls, but for the last part of the training",
    "plateau": "poly: falls by the number of epochs, whatever the loss does",
}
"""Next-best schedule by name."""


class SearchFacts(NamedTuple):
    """A search and what it looked at."""

    found: Found
    grid: Grid
    rule: MemoryRule
    adaptation: Adaptation


def configuration_reasons(
    configuration: Configuration, facts: SearchFacts, preset: Preset, *, batch_dice: bool
) -> dict[str, Reason]:
    """Return the reasons of one configuration's own search, by field within it."""
    adapted = facts.adaptation
    dice = "over the batch: a patch sees little of a case" if batch_dice else "per patch"
    return {
        "patch_size": _patch_reason(facts),
        "batch_size": _batch_reason(facts, preset),
        "network": _network_reason(facts, preset),
        "loss": extended(
            adapted.reasons["loss"], f"Dice {dice}; outputs weigh half of the next finer one, the coarsest nothing"
        ),
        "augmentation": _augmentation_reason(configuration.patch_size, adapted),
        "previous_configuration": Reason(
            rule="none: this one works from the images alone",
            alternative="a coarser 3D configuration where there is one, whose segmentation is one more input: to be trained on every fold first",
        ),
        **_relief_reasons(configuration, facts),
        "optimizer": Reason(
            rule=f"of preset {preset.name}", alternative=OTHER_OPTIMIZERS[configuration.optimizer.name]
        ),
        "schedule": Reason(rule=f"of preset {preset.name}", alternative=OTHER_SCHEDULES[configuration.schedule.name]),
    }


def _patch_reason(facts: SearchFacts) -> Reason:
    found, (candidate, initial, *_) = facts.found, facts.found
    if found.larger is None:
        alternative = "none larger: this one holds a median case, or the volume that the preset begins with"
    else:
        needed = facts.rule.needed_gb(found.larger, facts.grid, is_rough=True)
        alternative = f"{_times(found.larger.patch_size)} voxels, which would need about {needed:.2f} GB"
    return Reason(
        rule="begin with the preset's volume shaped like a median case; shrink what is largest until the budget holds",
        inputs={
            "initial": list(initial),
            "median_shape": list(facts.grid.median_shape),
            "feature_map_elements": feature_map_elements(
                candidate.network, candidate.patch_size, facts.grid.num_outputs
            ),
        },
        alternative=alternative,
    )


def _batch_reason(facts: SearchFacts, preset: Preset) -> Reason:
    found, rule = facts.found, facts.rule
    limits: dict[str, JsonValue] = {
        "batch_by_memory": found.batch_by_memory,
        "batch_by_dataset": found.batch_by_dataset,
        "batch_by_preset": preset.max_batch_size,
    }
    batch_size = found.candidate.batch_size
    larger = found.candidate._replace(
        batch_size=batch_size + rule.num_gpus * found.candidate.relief.gradient_accumulation
    )
    needed = rule.needed_gb(larger, facts.grid, is_rough=True)
    return Reason(
        rule=f"what memory, the size of the dataset ({preset.max_dataset_covered:.0%} of its voxels in a batch) and the "
        f"preset allow, at least {MIN_BATCH_SIZE}",
        inputs={**limits, "num_gpus": rule.num_gpus},
        alternative=f"{larger.batch_size} patches, which would need about {needed:.2f} GB",
    )


def _network_reason(facts: SearchFacts, preset: Preset) -> Reason:
    network, patch = facts.found.candidate.network, facts.found.candidate.patch_size
    is_given = preset.network != PRESETS[preset.name].network if preset.name in PRESETS else False
    chosen = f"{network.name}, as --network says" if is_given else f"{network.name} of preset {preset.name}"
    other = "plain_unet" if network.name == "residual_unet" else "residual_unet"
    topology = Topology(network.strides, network.kernel_sizes, patch)
    rival = build_topology(topology, preset.model_copy(update={"network": other}))
    outputs = facts.grid.num_outputs
    ratio = feature_map_elements(rival, patch, outputs) / feature_map_elements(network, patch, outputs)
    spacing_ratio = max(facts.grid.spacing_mm) / min(facts.grid.spacing_mm)
    flat = sum(1 in kernel for kernel in network.kernel_sizes)
    across = f" (at {spacing_ratio:.1f} times the finest: not before stage {flat + 1})" if flat else ""
    return Reason(
        rule=f"{chosen}; an axis is halved, and convolved across, once its spacing is within twice the finest{across}, "
        "and halved only where 4 voxels or more are left of it",
        inputs={
            "num_stages": network.num_stages,
            "base_features": preset.base_features,
            "spacing_ratio": spacing_ratio,
        },
        alternative=f"--network {other}, with {ratio:.2f} times the feature maps on the same patch",
    )


def _augmentation_reason(patch_size: Sequence[int], adapted: Adaptation) -> Reason:
    reason = adapted.reasons["augmentation"]
    if is_thick(patch_size):
        elongation = f"over {THICK_PATCH:g} times longer than thick ({max(patch_size)} to {patch_size[0]})"
        return extended(reason, f"turned in its planes only, the patch being {elongation}: slices are not mixed")
    return extended(reason, "turned in space" if len(patch_size) == 3 else "turned in the plane")


def _relief_reasons(configuration: Configuration, facts: SearchFacts) -> dict[str, Reason]:
    """Tell what was done to keep a small budget."""
    tight = "the budget holds no worthwhile patch otherwise"
    is_smaller = not facts.found.candidate.relief.keeps_patch and len(facts.rule.reliefs) > 1
    checkpointing = Reason(
        rule="off: the budget holds without it",
        alternative="on: less memory, at the price of a second forward pass of each stage in every step",
    )
    if configuration.activation_checkpointing:
        rule = f"on: {tight}; stages are computed anew in the backward pass"
        checkpointing = Reason(rule=rule, alternative="off, with a larger --vram: no second forward pass of each stage")
    accumulation = Reason(
        rule="the whole batch at once: it fits the budget",
        alternative="2 parts, of batches with as many patches: about half of the activations, at the price of a second forward pass of each part",
    )
    if configuration.gradient_accumulation > 1:
        rule = f"the batch in {configuration.gradient_accumulation} parts: {tight}, even with activations computed anew"
        rule += "; and the patch is smaller than is worthwhile, as even that does not hold it" if is_smaller else ""
        accumulation = Reason(rule=rule, alternative="1, with a larger --vram: no second forward pass of each part")
    reasons = {"activation_checkpointing": checkpointing, "gradient_accumulation": accumulation}
    if configuration.inference.accumulate_on == "cpu":
        rule = "tiles are added up in main memory: the sums for all classes do not fit the budget"
        reasons["inference.accumulate_on"] = Reason(rule=rule, alternative="device, with a larger --vram: faster")
    return reasons


def lowres_reasons(full: Grid, lowres: Lowres) -> dict[str, Reason]:
    """Return the reasons of a coarser grid, by field of its configuration."""
    return {
        "spacing_mm": Reason(
            rule=f"full-resolution spacing, made coarser in steps of {STEP - 1:.0%}, fine axes first, until a patch covers "
            f"{SHARE_SEEN:.0%} of a median case",
            inputs={"full_spacing_mm": list(full.spacing_mm), "full_median_shape": list(full.median_shape)},
            alternative="3d_fullres, whose patch sees less of a case",
        ),
        "median_shape": Reason(
            rule="full-resolution median, scaled to the coarser spacing",
            inputs={"full_median_shape": list(full.median_shape)},
        ),
    }


def _times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))
