"""`tumorseg plan`, and the verbs about plans."""

from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from tumorseg.cli.lazy import lazy_group
from tumorseg.cli.names import split_names
from tumorseg.cli.numbers import GIGABYTES, HOURS
from tumorseg.cli.output import roots_of, show
from tumorseg.cli.paths import FILE, OUTPUT_FILE, PLACE
from tumorseg.cli.stated import exclude, stated_of, stated_options
from tumorseg.schema.quantities import GB, gb_text

if TYPE_CHECKING:
    from tumorseg.schema.plan import Plan

VERBS = {
    "explain": "why each value of a plan is what it is, and what its networks look like",
    "diff": "what differs between two plans",
    "validate": "whether a plan is sound, and still fits its dataset",
    "import": "a plan from nnU-Net's nnUNetPlans.json",
    "export": "nnUNetPlans.json and dataset.json from a plan",
}
"""Verb to what it does; the module `plan_<verb>` holds `command`."""


@click.group(
    cls=lazy_group("tumorseg.cli.plan_", VERBS), invoke_without_command=True, subcommand_metavar="[VERB [ARGS]...]"
)
@click.option("-d", "--dataset", type=PLACE, help="Registered name, folder, name below the data root, or manifest.")
@click.option("--fingerprint", type=FILE, help="Plan from a fingerprint, without the images.")
@click.option(
    "--preset",
    type=PLACE,
    default="optimized",
    show_default=True,
    metavar="NAME|FILE",
    help="optimized, large_gpu, fast_prototyping, mednext, transformer, nnunet, nnunet_resenc_m/l/xl, or a JSON file of your own.",
)
@click.option(
    "--vram", "vram_gb", type=GIGABYTES, help="GPU memory budget in GB (2^30 bytes).  [default: the preset's]"
)
@click.option("--num-gpus", type=click.IntRange(min=1), default=1, show_default=True, help="GPUs that share a batch.")
@click.option(
    "--device",
    help="cpu: width and patch by steps timed on this machine; cuda: for a GPU, though none may be here; cuda:N: the one to time or to --verify.",
)
@click.option("--verify", is_flag=True, help="Measure memory on the GPU, and shrink what does not fit.")
@click.option("--max-hours", type=HOURS, help="Time for one fold's training, without validation.")
@click.option(
    "--network",
    metavar="NAME|auto",
    help="Architecture, as `networks list` names them; auto chooses by cases, budget and time.  [default: the preset's]",
)
@click.option(
    "--flops-of",
    type=PLACE,
    metavar="PLAN:SHARE",
    help="Narrow the network to a share of what another plan's computes per mm3, such as plans/Big.json:0.25.",
)
@click.option("--channels", default="", help="Channels to use, in this order, separated by commas.")
@click.option("--regions", type=PLACE, help="brats, none, or a JSON file of regions.  [default: the dataset's own]")
@click.option(
    "--common-with",
    type=PLACE,
    multiple=True,
    metavar="DATASET",
    help="Plan for the channels and regions that this dataset has too; may be given often.",
)
@click.option(
    "--splits",
    type=PLACE,
    metavar="FILE|group|site|whole-sites|stratified",
    help="JSON file of folds (lists of held-out case_ids, or nnU-Net's splits_final.json), or: whole groups; one site each; whole sites; "
    "like labels.",
)
@exclude
@click.option("--set", "overrides", multiple=True, metavar="FIELD=VALUE", help="Set a field; may be given often.")
@click.option("--jobs", type=click.IntRange(min=1), help="Processes for the fingerprint at most.")
@stated_options
@click.option("-o", "--output", type=OUTPUT_FILE, help="Where to write.  [default: plans/<Dataset>__<preset>.json]")
@click.option("--force", is_flag=True, help="Replace a plan that was edited or is of another dataset.")
@click.pass_context
def command(context: click.Context, /, *, channels: str, overrides: tuple[str, ...], **options: Any) -> None:
    """Measure a dataset, decide everything, and write the plan.

    With a verb: tell of a plan that is there.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context, context.invoked_subcommand)
        return
    from tumorseg.planning.overrides import parse_override
    from tumorseg.stages.planning.plan import PlanRequest, plan

    request = PlanRequest(
        roots=roots_of(context.obj),
        stated=stated_of(options),
        channels=split_names(channels),
        overrides=tuple(parse_override(text) for text in overrides),
        **options,
    )
    written = plan(request)
    result = {"path": str(written.path), "plan": written.plan.model_dump(mode="json")}
    show(context.obj, result, f"{describe(written.plan)}\nwritten to {written.path}")


def _refuse_options(context: click.Context, verb: str) -> None:
    """Refuse options of `plan` itself before a verb, which they would not reach.

    Raises:
        click.UsageError: one was given.
    """
    given = []
    for parameter in context.command.params:
        # Not those of an environment variable or a default, which nobody has typed.
        if parameter.name and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            given.append(parameter.opts[-1])  # the long form
    if given:
        raise click.UsageError(
            f"`plan {verb}` makes no plan and knows no {', '.join(given)} before it; leave that out, or put it behind {verb}.",
            context,
        )


def describe(plan: "Plan") -> str:
    """Return the plan's main decisions, a line each."""
    channels = ", ".join(f"{channel.name} ({channel.kind})" for channel in plan.dataset.channels)
    training = plan.training
    # The number of epochs of a training by hours is known only once its steps have been timed.
    length = f"{training.epochs} epochs of {training.iterations_per_epoch}"
    if training.max_hours:
        length = f"{training.max_hours:g} hours"
    lines = [
        f"plan {plan.name} for {plan.dataset.name}: {plan.fingerprint.num_cases} cases, {len(plan.folds)} folds",
        *_unused(plan),
        f"  channels       {channels}",
        f"  predicts       {', '.join(_target_names(plan))}",
        f"  memory         {_memory(plan)}",
        f"  training       {length}",
    ]
    for name, configuration in sorted(plan.configurations.items()):
        default = " (default)" if name == plan.default_configuration else ""
        spacing = " x ".join(f"{edge:.3g}" for edge in configuration.spacing_mm)
        patch = " x ".join(map(str, configuration.patch_size))
        lines += [
            f"  {name}{default}",
            f"    spacing      {spacing} mm",
            f"    patch        {patch}, batch {configuration.batch_size}",
            f"    network      {configuration.network.name}{_why_network(plan, name)}",
            f"    loss         {configuration.loss.preset}, {configuration.optimizer.name}, {configuration.schedule.name}",
        ]
    return "\n".join(lines)


def _why_network(plan: "Plan", configuration: str) -> str:
    """Return why a configuration has its network, where neither the user nor a preset named it."""
    reason = plan.reasons.get(f"configurations.{configuration}.network.name")
    return "" if reason is None or reason.source != "rule" else f" ({reason.rule})"


def _target_names(plan: "Plan") -> list[str]:
    """Return the names of the regions, or else of the foreground labels."""
    if plan.dataset.regions:
        return [region.name for region in plan.dataset.regions]
    not_predicted = (0, plan.dataset.ignore_label)
    return [name for name, value in plan.dataset.labels.items() if value not in not_predicted]


def _unused(plan: "Plan") -> list[str]:
    """Return lines on the cases that are kept out."""
    counts = ((len(plan.dataset.excluded), "excluded"), (len(plan.dataset.kept_back), "in no list of the split file"))
    parts = [f"{count} {why}" for count, why in counts if count]
    lines = [f"  not used       {', '.join(parts)}"] if parts else []
    if plan.kept_from_training:
        numbers = ", ".join(str(len(cases)) for cases in plan.kept_from_training)
        lines.append(f"  kept back      {numbers} cases in the folds' own lists neither to train on nor to hold out")
    return lines


def _memory(plan: "Plan") -> str:
    budget = plan.budget
    allowed, predicted = gb_text(budget.vram_bytes, 1), budget.predicted_bytes
    text = f"{allowed}, not counted" if predicted is None else f"{predicted / GB:.1f} of {allowed} predicted"
    if budget.num_gpus > 1:
        text += f" on each of {budget.num_gpus} GPUs"
    if budget.step_s is not None:
        text += f"; {budget.step_s:.2g} s a step measured on this {'CPU' if budget.device == 'cpu' else 'GPU'}"
    if budget.measured_bytes is not None:
        text += f"; {gb_text(budget.measured_bytes, 1)} reserved on {budget.device}"
    return text
