"""Fingerprints made by hand."""

from tumorseg.planning.families.registry import family_of
from tumorseg.planning.memory.budgets import part_size
from tumorseg.planning.memory.counting import MemoryCounter
from tumorseg.planning.options import Machine, PlanOptions
from tumorseg.planning.overrides import parse_override
from tumorseg.planning.planner import make_plan
from tumorseg.planning.presets import preset_named
from tumorseg.schema.fingerprint import CaseMeasurement, Fingerprint, IntensityStatistics
from tumorseg.schema.plan import MemoryCount

MR = IntensityStatistics(
    mean=410.0, median=380.0, std=120.0, min=0.0, max=2100.0, percentile_00_5=12.0, percentile_99_5=900.0
)
CT = IntensityStatistics(
    mean=99.5, median=101.0, std=39.4, min=-983.0, max=5420.0, percentile_00_5=-17.0, percentile_99_5=201.0
)


def widths(network):
    """Return the features of each stage, or of those that double at each if the record has none but the first's."""
    doubled = tuple(network.features * 2**stage for stage in range(5)) if hasattr(network, "features") else ()
    return getattr(network, "features_per_stage", doubled)


class RoughCounter(MemoryCounter):
    """Estimates in no time what a real one counts in a second: for tests of decisions that memory hardly matters to."""

    def count(self, configuration, setting, *, num_gpus=1):
        """Return 10 bytes for each element of a feature map, and 16 for each weight of the widest layers."""
        network, patch = configuration.network, configuration.patch_size
        elements = family_of(network.name).feature_maps(network, patch, setting.targets.num_outputs)
        elements *= 0.3 if configuration.activation_checkpointing else 1.0
        weights = 27 * 4 * sum(features**2 for features in widths(network))
        activations = 5 * round(elements) * part_size(configuration, num_gpus)
        return MemoryCount(
            parameters_bytes=weights,
            gradients_bytes=weights,
            optimizer_bytes=weights,
            activations_bytes=activations,
            workspace_bytes=0,
            peak_bytes=3 * weights + activations,
            inference_bytes=weights + activations // 4,
        )


COUNTER = RoughCounter()
LABELS = {"background": 0, "tumour": 1}


def case(case_id="a", spacing_mm=(1.0, 1.0, 1.0), shape=(36, 50, 35), **fields):
    return CaseMeasurement(
        case_id=case_id, spacing_mm=spacing_mm, shape=shape, shape_after_crop=fields.pop("cropped", shape), **fields
    )


def equal_cases(count, spacing_mm=(1.0, 1.0, 1.0), shape=(36, 50, 35)):
    return [case(f"case_{number:04}", spacing_mm, shape) for number in range(count)]


def fingerprint(cases=None, *, channels=("MRI",), labels=LABELS, intensities=MR, relative_size=1.0, **dataset):
    return Fingerprint.model_validate(
        {
            "schema_version": 1,
            "dataset": {"name": "Toy", "channels": list(channels), "labels": labels, **dataset},
            "cases": [measured.model_dump() for measured in (equal_cases(10) if cases is None else cases)],
            "intensities": {
                channel if isinstance(channel, str) else channel["name"]: intensities.model_dump()
                for channel in channels
            },
            "median_relative_size_after_cropping": relative_size,
        }
    )


def planned(measured=None, *settings, **options):
    """Return the plan of a fingerprint, with `field=value` settings."""
    overrides = tuple(parse_override(text) for text in settings)
    return made(measured, PlanOptions(overrides=overrides, **with_preset(options))).plan


def made(measured=None, options=None):
    """Return the plan of a fingerprint, with its warnings."""
    return make_plan(measured or fingerprint(), "Toy__plan", options or PlanOptions(), Machine(counter=COUNTER))


def with_preset(options):
    """Return options whose preset may be given by name."""
    return options | {"preset": preset_named(options["preset"])} if isinstance(options.get("preset"), str) else options
