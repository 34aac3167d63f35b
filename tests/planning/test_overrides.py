"""`--set field=value`."""

import json

import pytest

from tests.planning.measured import CT, fingerprint, planned
from tumorseg.augmentation.patches import AugmentedPatch
from tumorseg.augmentation.presets import AUGMENTATION_PRESETS, augmentation_preset
from tumorseg.errors import PlanError
from tumorseg.planning.overrides import apply_overrides, parse_override, set_field
from tumorseg.schema.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, DiceLoss, TopKLoss
from tumorseg.schema.optimizers import AdamW, CosineSchedule, PlateauSchedule, RAdam, Sgd
from tumorseg.schema.preprocessing import NoNormalization
from tumorseg.schema.training import EarlyStop, Ema

NAMES = ("2d", "3d_fullres")


@pytest.fixture(scope="module")
def plan():
    return planned()


def with_set(plan, *settings):
    return apply_overrides(plan, [parse_override(text) for text in settings])


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("training.epochs=4", "training.epochs", 4),
        ("optimizer.lr=1e-3", "optimizer.lr", 1e-3),
        ("loss.preset=dice_ce", "loss.preset", "dice_ce"),
        ('loss.preset="dice_ce"', "loss.preset", "dice_ce"),
        ("inference.mirroring=false", "inference.mirroring", False),
        ("training.max_hours=null", "training.max_hours", None),
        ("configurations.2d.patch_size=[32, 32]", "configurations.2d.patch_size", [32, 32]),
        (" a =b=c", "a", "b=c"),
        ("a=", "a", ""),
    ],
)
def test_a_value_is_json_or_else_a_string(text, field, value):
    override = parse_override(text)
    assert (override.field, override.value) == (field, value)


@pytest.mark.parametrize("text", ["training.epochs", "", "=4", "  =4"])
def test_a_setting_without_field_or_value_is_refused(text):
    with pytest.raises(PlanError, match=r"is not of the form field=value, such as training\.epochs=4"):
        parse_override(text)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(plan, value):
    with pytest.raises(PlanError, match=r"optimizer\.lr"):
        with_set(plan, f"optimizer.lr={value}")


def test_nothing_set_returns_the_same_plan(plan):
    assert apply_overrides(plan, []) is plan


def test_a_field_of_training_is_set(plan):
    changed = with_set(plan, "training.epochs=4", "training.precision.cpu=bf16", "training.max_hours=0.5")
    assert (changed.training.epochs, changed.training.precision.cpu, changed.training.max_hours) == (4, "bf16", 0.5)
    assert changed.configurations == plan.configurations


def test_a_field_without_a_configuration_is_set_in_all(plan):
    changed = with_set(plan, "optimizer.lr=0.5", "sampling.foreground_fraction=0")
    assert [changed.configurations[name].optimizer.lr for name in NAMES] == [0.5, 0.5]
    assert [changed.configurations[name].sampling.foreground_fraction for name in NAMES] == [0, 0]


def test_a_field_of_one_configuration_is_set_there_only(plan):
    changed = with_set(plan, "configurations.2d.batch_size=8")
    assert changed.configurations["2d"].batch_size == 8
    assert changed.configurations["3d_fullres"] == plan.configurations["3d_fullres"]


def test_a_whole_record_can_be_set(plan):
    changed = with_set(plan, 'optimizer={"name": "adamw", "lr": 0.25}')
    assert {configuration.optimizer for configuration in changed.configurations.values()} == {AdamW(lr=0.25)}


def test_the_default_configuration_can_be_set(plan):
    assert with_set(plan, "default_configuration=2d").default_configuration == "2d"


def test_an_entry_of_a_list_is_set_by_its_index(plan):
    changed = with_set(
        plan,
        "loss.components.1.weight=3",
        "augmentation.transforms.0.rotation_probability=0",
        "configurations.3d_fullres.patch_size.0=48",
        'normalization.0={"name": "none"}',
    )
    for configuration in changed.configurations.values():
        assert configuration.loss.components[1].weight == 3
        assert configuration.augmentation.transforms[0].rotation_probability == 0
        assert configuration.normalization == (NoNormalization(),)
    assert changed.configurations["3d_fullres"].patch_size == (48, 56, 40)


def test_naming_another_optimizer_begins_with_its_defaults(plan):
    changed = with_set(plan, "optimizer.name=adamw", "schedule.name=plateau")
    for configuration in changed.configurations.values():
        assert configuration.optimizer == AdamW()
        assert configuration.schedule == PlateauSchedule()


def test_an_optimizer_of_the_same_kin_keeps_what_means_the_same(plan):
    changed = with_set(with_set(plan, "optimizer.name=adamw", "optimizer.betas.0=0.8"), "optimizer.name=radam")
    assert changed.configurations["2d"].optimizer == RAdam(betas=(0.8, 0.999))
    spared = with_set(with_set(plan, "optimizer.decay_norms_and_biases=false"), "optimizer.name=radam")
    assert spared.configurations["2d"].optimizer == RAdam(decay_norms_and_biases=False)


def test_how_long_and_how_gently_is_set_by_fields_of_the_training(plan):
    changed = with_set(
        plan,
        "schedule.name=cosine",
        "schedule.warmup_fraction=0.1",
        "training.gradient_clip_norm=null",
        "training.ema.decay=0.99",
        "training.early_stop={}",
    )
    assert changed.configurations["2d"].schedule == CosineSchedule(warmup_fraction=0.1)
    assert changed.training.gradient_clip_norm is None
    assert (changed.training.ema, changed.training.early_stop) == (Ema(decay=0.99), EarlyStop())


def test_a_field_of_the_optimizer_just_named_can_be_set(plan):
    changed = with_set(plan, "optimizer.name=adamw", "optimizer.lr=0.5")
    assert changed.configurations["2d"].optimizer == AdamW(lr=0.5)


def test_naming_the_same_optimizer_keeps_its_values(plan):
    changed = with_set(plan, "optimizer.lr=0.5", "optimizer.name=sgd")
    assert changed.configurations["2d"].optimizer == Sgd(lr=0.5)


def test_a_loss_preset_is_expanded_and_keeps_what_the_plan_decided_and_what_is_set_beside_it(plan):
    changed = with_set(plan, "loss.components.0.smooth=1", "loss.preset=nnunet")
    for name, batch in zip(NAMES, (True, False), strict=True):
        before, after = plan.configurations[name].loss, changed.configurations[name].loss
        assert after.preset == "nnunet"
        assert after.components == (DiceLoss(smooth=1, batch=batch), CrossEntropyLoss())
        assert after.deep_supervision_weights == before.deep_supervision_weights


def test_what_a_loss_preset_leaves_as_it_was_keeps_its_reason(plan):
    changed = with_set(plan, "loss.preset=nnunet")
    field = "configurations.3d_fullres.loss.deep_supervision_weights"
    assert changed.reasons[field] == plan.reasons[field]
    assert (
        changed.reasons["configurations.3d_fullres.loss"].rule == "follows from its preset, which was set by the user"
    )


def test_a_loss_preset_of_regions_is_binary():
    regions = [{"name": "whole", "labels": [1], "value": 1}]
    changed = planned(fingerprint(regions=regions), "loss.preset=nnunet")
    assert isinstance(changed.configurations["2d"].loss.components[1], BinaryCrossEntropyLoss)


def test_what_was_set_is_recorded_with_what_was_planned(plan):
    changed = with_set(plan, "training.epochs=4", "optimizer.lr=0.5")
    reason = changed.reasons["training.epochs"]
    assert reason.rule == "set by the user"
    assert reason.inputs == {"value": 4, "planned": 500}
    for name in NAMES:
        assert changed.reasons[f"configurations.{name}.optimizer.lr"].inputs == {"value": 0.5, "planned": 0.01}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=4", r"--set epochs: there is no such field; a field begins with one of training, "),
        ("folds=[]", r"--set folds: there is no such field"),
        ("dataset.name=x", r"--set dataset\.name: there is no such field"),
        ("training.epoch=4", r"--set training\.epoch: there is no such field; known here: epochs, "),
        ("training.epochs.x=4", r"--set training\.epochs\.x: there is no such field; known here: nothing"),
        ("optimizer.beta=4", r"--set configurations\.2d\.optimizer\.beta: .*known here: name, lr, "),
        ("configurations.4d.batch_size=4", r"--set configurations\.4d: .*known here: 2d, 3d_fullres"),
        ("loss.components.2.weight=1", r"--set configurations\.2d\.loss\.components\.2: .*known here: 0, 1"),
        ("loss.components.x.weight=1", r"--set configurations\.2d\.loss\.components\.x: .*known here: 0, 1"),
        ("loss.components.-1.weight=1", r"components\.-1: .*known here: 0, 1"),
        ("training.epochs=four", r"training\.epochs: expected a whole number, found 'four'"),
        ("training.epochs=0", r"training\.epochs: expected 1 or more, found 0"),
        ("training.precision.cuda=fp8", r"training\.precision\.cuda: .*'fp32', 'fp16' or 'bf16'"),
        ("training=3", r"training: expected an object, .*, found 3"),
        ("configurations=3", r"configurations: expected an object, .*, found 3"),
        ("optimizer.name=adam", r"configurations\.2d\.optimizer: .*'sgd', 'adamw'"),
        ("optimizer.lr=-1", r"configurations\.2d\.optimizer\.lr: expected more than 0, found -1"),
        ("network.name=unext", r"configurations\.2d\.network: .*known are plain_unet, residual_unet"),
        ("loss.preset=dice_focl", r"loss preset 'dice_focl'; known are dice_ce, dice_focal, dice_topk, .*nnunet"),
        ("patch_size=[40, 56]", r"configurations\.3d_fullres: patch_size, spacing_mm and median_shape"),
        ("configurations.2d.patch_size=[41, 56]", r"patch_size \[41, 56\] must be multiples of \[8, 8\]"),
        ("network.deep_supervision=false", r"configurations\.2d: loss\.deep_supervision_weights"),
        ("default_configuration=5d", r"default_configuration '5d' is not in configurations"),
        ("inference.mirroring_axes=[0, 0]", r"names one twice"),
        ("network.features_per_stage.0=0", r"features_per_stage\.0: expected 1 or more, found 0"),
        ("network.decoder_convs_per_stage.0=-300", r"decoder_convs_per_stage\.0: expected 1 or more, found -300"),
        ("optimizer.betas=[2, 3]", r"configurations\.2d\.optimizer"),
        ("optimizer.lr=1e38", r"optimizer\.lr: expected 100 or less"),
        ("training.seed=99999999999999999999999", r"training\.seed"),
        ("configurations.3d_fullres.patch_size=[8, 8, 8]", r"leaves one voxel at the bottleneck"),
        ('augmentation.transforms.0.scaling={"low": -1, "high": 0}', r"low is -1\.0; a factor must be above 0"),
        ("augmentation.transforms.1.std.low=-1", r"must not be negative"),
        ("configurations.2d.augmentation.transforms.0.in_plane=true", r"in_plane"),
        ("loss.components.1.name=binary_cross_entropy", r"no regions; use cross_entropy"),
        ("inference.mirroring_axes=[3]", r"mirroring_axes \(3,\) has an axis not in 0 to 1"),
        ("augmentation.preset=nnunett", r"no augmentation preset 'nnunett'; known are none, light, .*strong"),
        ("augmentation.preset=custom", r"no augmentation preset 'custom'"),
        ("augmentation.preset=[1]", r"augmentation\.preset=\[1\]: expected one of none, light"),
        ("augmentation.strength=-1", r"augmentation\.strength: strength: expected 0 or more, found -1"),
        ("augmentation.strength=much", r"strength: expected a number"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_the_field(plan, setting, message):
    with pytest.raises(PlanError, match=message) as refused:
        with_set(plan, setting)
    assert "\n" not in str(refused.value)


def test_a_field_of_another_optimizer_may_be_set_before_its_name(plan):
    changed = with_set(plan, "optimizer.lr=0.123", "optimizer.name=adamw")
    assert {found.optimizer.lr for found in changed.configurations.values()} == {0.123}
    assert {found.optimizer.name for found in changed.configurations.values()} == {"adamw"}


def test_a_field_given_twice_is_refused(plan):
    with pytest.raises(PlanError, match=r"training\.epochs is given twice"):
        with_set(plan, "training.epochs=7", "training.epochs=9")


@pytest.mark.parametrize(
    "settings",
    [
        ("loss.components.0.weight=4", "loss.components.dice.weight=2"),
        ("configurations.2d.loss.components.dice.weight=2", "configurations.2d.loss.components.0.weight=4"),
    ],
)
def test_a_field_given_twice_under_two_names_is_refused(plan, settings):
    with pytest.raises(PlanError, match=r"configurations\.2d\.loss\.components\.0\.weight is given twice"):
        with_set(plan, *settings)


@pytest.mark.parametrize("is_reversed", [False, True])
def test_what_is_said_of_one_configuration_holds_against_what_is_said_of_all(plan, is_reversed):
    settings = [
        *(
            "configurations.2d.batch_size=4",
            "configurations.2d.optimizer.lr=0.5",
            "configurations.2d.loss.preset=nnunet",
        ),
        *("batch_size=2", "optimizer.lr=0.1", "loss.preset=dice_focal"),
    ]
    changed = with_set(plan, *(settings[::-1] if is_reversed else settings))
    found = {name: (one.batch_size, one.optimizer.lr, one.loss.preset) for name, one in changed.configurations.items()}
    assert found == {"2d": (4, 0.5, "nnunet"), "3d_fullres": (2, 0.1, "dice_focal")}
    assert changed.reasons["configurations.2d.optimizer.lr"].inputs == {"value": 0.5, "planned": 0.01}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('loss={"preset": "x"}', "components: missing"),
        ("configurations.2d={}", "expected an object"),
        ("network={}", "name: missing"),
        ("network=5", "expected an object"),
    ],
)
def test_a_network_of_what_was_set_in_part_is_not_converted(plan, setting, message):
    with pytest.raises(PlanError, match=message) as refused:
        with_set(plan, setting, "network.name=plain_unet")
    assert "\n" not in str(refused.value)


def test_a_loss_without_weights_of_outputs_gets_those_of_the_other_network(plan):
    loss = 'loss={"preset": "x", "components": [{"name": "dice"}, {"name": "cross_entropy"}]}'
    changed = with_set(plan, loss, "network.name=plain_unet")
    for name in NAMES:
        found = changed.configurations[name].loss
        assert found.deep_supervision_weights == plan.configurations[name].loss.deep_supervision_weights


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1" * 5000, "a whole number of 5000 digits"),
        ("-9223372036854775809", "a whole number of 19 digits"),
        ("a\x1b[2J", "holds control or format characters"),
        ("\u202e", "holds control or format characters"),
        ("[" * 100_000, "deep in each other"),
        ("1e999", "found 1e999"),
        ("NaN", "found NaN"),
        ('"\\ud800"', "half a character"),
    ],
)
def test_a_value_that_no_plan_can_hold_is_told_in_one_line(value, message):
    with pytest.raises(PlanError, match=message) as refused:
        parse_override(f"training.epochs={value}")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 400


def test_a_field_holds_no_control_characters_and_a_value_in_json_may_have_lines():
    with pytest.raises(PlanError, match="holds control or format characters") as refused:
        parse_override("training.\x1b[2J=1")
    assert str(refused.value).isprintable()
    assert parse_override("a=[1,\n\t2]").value == [1, 2]


def test_a_bad_loss_before_a_preset_is_one_line_too(plan):
    with pytest.raises(PlanError, match="weight"):
        with_set(plan, "loss.components.0.weight=heavy", "loss.preset=nnunet")


@pytest.mark.parametrize(
    "setting", ["configurations.3d_fullres.batch_size=500", "configurations.3d_fullres.patch_size=[40,56,80]"]
)
def test_the_predicted_memory_follows_what_was_set(plan, setting):
    assert planned(None, setting).budget.predicted_bytes != plan.budget.predicted_bytes


def test_a_configuration_that_becomes_a_cascade_is_augmented_as_one(plan):
    setting = "configurations.2d.previous_configuration=3d_fullres"
    names = [t.name for t in with_set(plan, setting).configurations["2d"].augmentation.transforms]
    before = [t.name for t in plan.configurations["2d"].augmentation.transforms]
    assert names == [*before, "previous_morphology", "previous_removal"]
    cascade = with_set(plan, setting)
    for number in (len(before), len(before) + 1):
        reason = cascade.reasons[f"configurations.2d.augmentation.transforms.{number}"]
        assert "the previous segmentation is corrupted" in reason.rule
    back = with_set(cascade, "configurations.2d.previous_configuration=null")
    assert back.configurations["2d"] == plan.configurations["2d"]
    assert back.reasons.keys() == plan.reasons.keys()
    none = "configurations.2d.augmentation.transforms=[]"
    assert with_set(plan, none, setting).configurations["2d"].augmentation.transforms == ()


OWN = '{"name": "mine", "components": [{"name": "jaccard"}, {"name": "cross_entropy"}], "weighting": {"name": "adaptive"}}'


def test_a_loss_preset_of_the_users_own_is_fitted_like_the_others(plan):
    regions = planned(
        fingerprint(labels={"background": 0, "a": 1, "b": 2}, regions=[{"name": "whole", "labels": [1, 2], "value": 1}])
    )
    for one, entropy in ((plan, CrossEntropyLoss), (regions, BinaryCrossEntropyLoss)):
        for name, configuration in with_set(one, f"loss.preset={OWN}").configurations.items():
            loss = configuration.loss
            assert (loss.preset, loss.weighting.name) == ("mine", "adaptive")
            assert isinstance(loss.components[1], entropy)
            assert loss.components[0].batch == one.configurations[name].loss.components[0].batch
            assert loss.deep_supervision_weights == one.configurations[name].loss.deep_supervision_weights


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        ('{"name": "mine"}', "components: missing"),
        ('{"name": "mine", "components": [{"name": "dicee"}]}', "known are dice, generalized_dice"),
        ('{"name": "mine", "components": [{"name": "dice", "weight": 0}]}', "sum to 0"),
        (
            '{"name": "mine", "components": [{"name": "dice"}], "weighting": {"name": "x"}}',
            "known are fixed, uncertainty",
        ),
        ('{"name": "mine", "components": [{"name": "topk", "k": 0}]}', "above 0 and at most 1"),
        (
            '{"name": "mine", "components": [{"name": "boundary"}, {"name": "boundary", "max_distance_mm": 3}]}',
            "share one",
        ),
    ],
)
def test_an_unsound_loss_preset_is_one_line(plan, preset, message):
    with pytest.raises(PlanError, match=message) as refused:
        with_set(plan, f"loss.preset={preset}")
    assert "\n" not in str(refused.value)


def test_a_component_that_was_just_named_has_defaults_and_keeps_weight_and_batch(plan):
    settings = ("loss.components.0.weight=0.5", "loss.components.0.name=tversky", "loss.components.0.alpha=0.4")
    changed = with_set(plan, *settings)
    for name in NAMES:
        before, after = (one.configurations[name].loss.components[0] for one in (plan, changed))
        assert (after.name, after.alpha, after.beta, after.weight, after.batch) == (
            "tversky",
            0.4,
            0.7,
            0.5,
            before.batch,
        )


@pytest.mark.parametrize(
    ("settings", "part", "expected"),
    [
        (
            ("loss.weighting.name=uncertainty", "loss.weighting.lr=0.01"),
            "weighting",
            {"name": "uncertainty", "lr": 0.01},
        ),
        (
            ('loss.weighting={"name": "uncertainty"}', "loss.weighting.lr=0.01"),
            "weighting",
            {"name": "uncertainty", "lr": 0.01},
        ),
        (
            (
                'loss.components.0.weight={"name": "linear", "start": 0, "end": 1}',
                "loss.components.0.weight.begin=0.3",
            ),
            "components.0.weight",
            {"name": "linear", "start": 0.0, "end": 1.0, "begin": 0.3, "until": 1.0},
        ),
        (
            (
                'loss.components.1.class_weights={"name": "effective_number", "of": "batch"}',
                "loss.components.1.class_weights.beta=0.9",
            ),
            "components.1.class_weights",
            {"name": "effective_number", "of": "batch", "voxels": None, "beta": 0.9},
        ),
    ],
)
def test_a_field_of_what_was_just_set_may_be_set(plan, settings, part, expected):
    document = with_set(plan, *settings).model_dump(mode="json")["configurations"]["2d"]["loss"]
    for key in part.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    assert document == expected


def test_naming_another_kind_keeps_what_means_the_same(plan):
    weighed = with_set(plan, "loss.components.1.name=nacl")
    assert weighed.configurations["2d"].loss.components[1].weight == 0.1  # its own default, beside a cross-entropy
    line = 'loss.components.0.weight={"name": "linear", "start": 0, "end": 1}'
    curve = with_set(with_set(plan, line), "loss.components.0.weight.name=cosine")
    found = curve.configurations["2d"].loss.components[0].weight
    assert (found.name, found.start, found.end) == ("cosine", 0.0, 1.0)


def test_a_preset_that_says_batch_is_taken_at_its_word(plan):
    own = '{"name": "mine", "components": [{"name": "dice", "batch": false}]}'
    changed = with_set(plan, f"loss.preset={own}")
    assert plan.configurations["2d"].loss.components[0].batch
    assert not changed.configurations["2d"].loss.components[0].batch


def test_a_preset_of_another_kind_is_refused_with_what_is_expected(plan):
    with pytest.raises(PlanError, match=r"expected the name of a preset, a JSON file, or an object"):
        with_set(plan, "loss.preset=[1]")


def test_a_wrong_component_is_told_once(plan):
    with pytest.raises(PlanError) as refused:
        with_set(plan, 'loss.preset={"name": "mine", "components": [{"name": "dice", "smoothh": 1}]}')
    assert "smoothh" in str(refused.value)
    assert "at least 1 item" not in str(refused.value)


def leaves_of(value, path):
    """Yield path and value of everything inside a document."""
    yield path, value
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves_of(entry, f"{path}.{key}")


@pytest.mark.parametrize("section", ["training", "default_configuration", "configurations"])
def test_every_field_can_be_set_and_nothing_changes_where_it_is_set_to_what_it_was(plan, section):
    document = plan.model_dump(mode="json")
    for field, value in leaves_of(document[section], section):
        change = set_field(document, field, value, source="--set")
        assert (change.field, change.before) == (field, value)
        assert change.document == document, field


def test_another_network_takes_the_place_of_the_planned_one(plan):
    changed = with_set(plan, "network.name=plain_unet", "network.features_per_stage.0=16", "network.negative_slope=0.1")
    for name in NAMES:
        before, after = (one.configurations[name].network for one in (plan, changed))
        assert (before.name, after.name) == ("residual_unet", "plain_unet")
        assert (after.strides, after.kernel_sizes) == (before.strides, before.kernel_sizes)
        assert after.features_per_stage == (16, *before.features_per_stage[1:])
        assert after.negative_slope == 0.1
    back = with_set(
        changed, "network.name=residual_unet", "network.features_per_stage.0=32", "network.negative_slope=0.01"
    )
    assert back.configurations == plan.configurations


def test_a_network_without_stages_cannot_be_replaced(plan):
    other = json.dumps({"name": "mine", "distribution": "pkg", "version": "1"})
    foreign = with_set(plan, f"network={other}", "network.parameters.depth=3")
    assert foreign.configurations["2d"].network.parameters == {"depth": 3}
    with pytest.raises(PlanError, match="mine has no stages that plain_unet could take over"):
        with_set(foreign, "network.name=plain_unet")


def test_transforms_are_set_by_name_and_components_are_added(plan):
    changed = with_set(
        plan,
        "augmentation.transforms.gaussian_noise.probability=0.5",
        'loss.components.2={"name": "topk"}',
        "loss.components.2.k=0.2",
    )
    for name in NAMES:
        configuration = changed.configurations[name]
        assert configuration.augmentation.transforms[1].probability == 0.5
        assert changed.reasons[f"configurations.{name}.augmentation.transforms.1.probability"].source == "user"
        assert configuration.loss.components[2] == TopKLoss(k=0.2)


def test_a_field_of_one_configuration_may_be_named_before_its_record(plan):
    changed = with_set(plan, "optimizer.lr=0.5", "configurations.2d.optimizer.name=adamw")
    assert changed.configurations["2d"].optimizer == AdamW(lr=0.5)
    assert changed.configurations["3d_fullres"].optimizer == Sgd(lr=0.5)


def test_what_follows_from_a_name_no_longer_gives_the_reason_of_what_it_replaced(plan):
    slower = with_set(plan, "optimizer.lr=0.5")
    changed = with_set(slower, "optimizer.name=adamw", "loss.preset=dice_focal")
    assert changed.reasons["configurations.2d.optimizer.name"].source == "user"
    assert changed.reasons["configurations.2d.optimizer"].rule == "follows from its name, which was set by the user"
    assert changed.reasons["configurations.2d.loss"].rule == "follows from its preset, which was set by the user"
    assert "configurations.2d.optimizer.lr" not in changed.reasons
    assert changed.reasons["configurations.2d.sampling"] == plan.reasons["configurations.2d.sampling"]


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("trainig.epochs=4", "training"),
        ("training.epoch=4", "epochs"),
        ("optimiser.lr=1", "optimizer"),
        ("network.feature_per_stage.0=8", "features_per_stage"),
        ("augmentation.transforms.gausian_noise.probability=0", "gaussian_noise"),
    ],
)
def test_the_nearest_name_is_asked_for(plan, setting, meant):
    with pytest.raises(PlanError, match=rf"; did you mean {meant}\?$"):
        with_set(plan, setting)


def test_a_configuration_given_in_part_is_one_line_whatever_is_set_in_it(plan):
    with pytest.raises(PlanError, match=r"augmentation: missing|expected an object") as refused:
        with_set(plan, "configurations.2d={}", "configurations.2d.previous_configuration=3d_fullres")
    assert "\n" not in str(refused.value)


def augmentations(plan):
    return {name: configuration.augmentation for name, configuration in plan.configurations.items()}


SIDES = {"background": 0, "kidney_left": 1, "kidney_right": 2}


@pytest.fixture(scope="module")
def two_kinds():
    return planned(fingerprint(channels=("CT", "PET"), intensities=CT, labels=SIDES))


@pytest.mark.parametrize("preset", AUGMENTATION_PRESETS)
def test_an_augmentation_preset_is_expanded_for_patch_flips_and_channels(two_kinds, preset):
    changed = with_set(two_kinds, f"augmentation.preset={preset}")
    for name, configuration in changed.configurations.items():
        patch = AugmentedPatch(
            patch_size=configuration.patch_size,
            mirroring_axes=configuration.inference.mirroring_axes,
            kinds=("ct", "pet"),
            normalization=configuration.normalization,
        )
        assert patch.has_lateral_axis
        assert configuration.augmentation == augmentation_preset(preset, patch, strength=1.5)
        before = two_kinds.configurations[name]
        assert configuration.changed(augmentation=before.augmentation) == before
        following = changed.reasons[f"configurations.{name}.augmentation"].rule
        assert following == "follows from its preset, which was set by the user"
        assert changed.reasons[f"configurations.{name}.augmentation.preset"].source == "user"
        strength = f"configurations.{name}.augmentation.strength"
        assert changed.reasons[strength] == two_kinds.reasons[strength]
        rotation = f"configurations.{name}.augmentation.transforms.0.rotation_deg"
        assert (rotation in changed.reasons) == (preset != "none")


def test_an_augmentation_preset_of_one_configuration_leaves_the_others(plan):
    changed = with_set(plan, "configurations.2d.augmentation.preset=light")
    assert changed.configurations["2d"].augmentation.preset == "light"
    assert changed.configurations["3d_fullres"] == plan.configurations["3d_fullres"]


def test_a_preset_is_fitted_to_a_patch_that_is_set_beside_it(plan):
    settings = (
        "configurations.3d_fullres.augmentation.preset=strong",
        "configurations.3d_fullres.patch_size=[16,56,40]",
    )
    spatial = with_set(plan, *settings).configurations["3d_fullres"].augmentation.transforms[0]
    assert (spatial.in_plane, spatial.rotation_deg) == (True, (180, 0, 0))


def test_a_transform_that_is_changed_makes_the_list_the_users_own(plan):
    settings = ("augmentation.transforms.brightness.probability=0", "augmentation.preset=light")
    changed = with_set(plan, *settings)
    for name, found in augmentations(changed).items():
        assert (found.preset, found.strength) == ("custom", 1.5)
        assert [(one.name, one.probability) for one in found.transforms if one.name == "brightness"] == [
            ("brightness", 0)
        ]
        reason = changed.reasons[f"configurations.{name}.augmentation.preset"]
        assert reason.rule == "a transform of preset light was changed by the user"
    light = with_set(changed, "augmentation.preset=light")
    assert augmentations(light) == augmentations(with_set(plan, "augmentation.preset=light"))


@pytest.mark.parametrize(
    "setting",
    [
        "augmentation.transforms.spatial.scaling.low=0.8",
        "augmentation.transforms=[]",
        "augmentation.transforms.0.name=contrast",
        'augmentation.transforms.0={"name": "contrast"}',
        'augmentation={"transforms": []}',
    ],
)
def test_a_list_is_custom_however_it_was_changed(plan, setting):
    assert {found.preset for found in augmentations(with_set(plan, setting)).values()} == {"custom"}


def test_a_transform_set_to_what_it_is_changes_no_preset(plan):
    same = with_set(plan, "augmentation.transforms.gaussian_noise.std.low=0.0")
    assert augmentations(same) == augmentations(plan)


def test_a_list_of_ones_own_keeps_its_name(plan):
    own = with_set(plan, 'augmentation={"preset": "mine", "transforms": [{"name": "contrast"}]}')
    same = with_set(own, "augmentation.preset=mine", "augmentation.strength=1")
    assert augmentations(same) == augmentations(own)
    assert {found.preset for found in augmentations(own).values()} == {"mine"}


def test_strength_multiplies_what_the_preset_says(plan):
    weaker = with_set(plan, "augmentation.strength=0.5", "augmentation.preset=nnunet")
    for name, found in augmentations(weaker).items():
        before = plan.configurations[name].augmentation
        assert (found.strength, found.preset) == (0.5, before.preset)
        assert found.transforms[0].rotation_probability == 0.1
        assert found.transforms[-1] == before.transforms[-1]
    back = with_set(weaker, "augmentation.strength=1.5")
    assert augmentations(back) == augmentations(plan)
    rotation = "configurations.2d.augmentation.transforms.0.rotation_deg"
    assert back.reasons[rotation] == plan.reasons[rotation]


def test_strength_beside_a_preset_holds_whatever_the_list_was_before(plan):
    own = with_set(plan, "augmentation.transforms=[]")
    changed = with_set(own, "augmentation.strength=2", "augmentation.preset=nnunet")
    assert {found.transforms[0].rotation_probability for found in augmentations(changed).values()} == {0.4}


def test_an_augmentation_preset_of_a_cascade_keeps_its_corruptions(plan):
    cascade = "configurations.2d.previous_configuration=3d_fullres"
    found = with_set(plan, cascade, "augmentation.preset=light").configurations["2d"].augmentation
    assert [one.name for one in found.transforms[-2:]] == ["previous_morphology", "previous_removal"]
    assert found.preset == "light"
    nothing = with_set(plan, cascade, "augmentation.preset=none").configurations["2d"].augmentation
    assert nothing.transforms == ()


def test_transforms_of_a_preset_are_fitted_again_to_another_patch(plan):
    field = "configurations.3d_fullres"
    changed = with_set(plan, f"{field}.patch_size=[16,56,40]")
    found, before = (one.configurations["3d_fullres"].augmentation for one in (changed, plan))
    assert (found.preset, found.strength) == (before.preset, before.strength)
    assert (found.transforms[0].in_plane, before.transforms[0].in_plane) == (True, False)
    assert found.transforms[-1] == before.transforms[-1]
    rule = changed.reasons[f"{field}.augmentation.transforms"].rule
    assert rule == "follows from its patch_size, which was set by the user"
    rotation = f"{field}.augmentation.transforms.0.rotation_deg"
    assert changed.reasons[rotation].rule.startswith("in-plane rotation alone")
    assert changed.reasons[f"{field}.augmentation"] == plan.reasons[f"{field}.augmentation"]


def test_transforms_of_a_preset_are_fitted_again_to_other_normalizations():
    masked = planned(fingerprint(relative_size=0.5), "configurations.2d.previous_configuration=3d_fullres")
    names = [one.name for one in masked.configurations["2d"].augmentation.transforms]
    assert names[-3:] == ["zero_outside", "previous_morphology", "previous_removal"]
    changed = with_set(masked, "normalization.0.masked=false")
    assert [one.name for one in changed.configurations["2d"].augmentation.transforms] == [*names[:-3], *names[-2:]]
    back = with_set(changed, "normalization.0.masked=true")
    assert back.configurations == masked.configurations
    corrupted = [field for field, reason in back.reasons.items() if reason.rule.startswith("the previous segmentation")]
    transforms = "configurations.2d.augmentation.transforms"
    assert sorted(corrupted) == [f"{transforms}.{number}" for number in (len(names) - 2, len(names) - 1)]


def test_flips_that_are_trained_stay_where_a_patch_is_set_whatever_is_predicted(plan):
    changed = with_set(with_set(plan, "inference.mirroring_axes=[]"), "configurations.3d_fullres.patch_size=[16,56,40]")
    transforms = changed.configurations["3d_fullres"].augmentation.transforms
    assert [one.axes for one in transforms if one.name == "mirror"] == [(0, 1, 2)]


def test_a_list_of_ones_own_is_not_fitted_to_anything(plan):
    own = with_set(plan, "augmentation.transforms.brightness.probability=0")
    changed = with_set(own, "configurations.3d_fullres.patch_size=[16,56,40]")
    assert augmentations(changed) == augmentations(own)


def test_a_name_that_two_transforms_have_stands_for_both(plan):
    changed = with_set(
        plan, "augmentation.transforms.gamma.probability=0", "configurations.2d.loss.components.dice.weight=2"
    )
    for name in NAMES:
        numbers = [
            number
            for number, one in enumerate(plan.configurations[name].augmentation.transforms)
            if one.name == "gamma"
        ]
        assert len(numbers) == 2
        for number in numbers:
            assert changed.configurations[name].augmentation.transforms[number].probability == 0
            field = f"configurations.{name}.augmentation.transforms.{number}.probability"
            planned_before = plan.configurations[name].augmentation.transforms[number].probability
            assert changed.reasons[field].inputs == {"value": 0, "planned": planned_before}
    with pytest.raises(PlanError, match=r"transforms\.6\.probability is given twice"):
        with_set(plan, "augmentation.transforms.gamma.probability=0", "augmentation.transforms.6.probability=1")


def test_a_list_of_ones_own_has_no_strength(plan):
    own = with_set(plan, "augmentation.transforms=[]")
    with pytest.raises(
        PlanError, match=r"are of no preset \(custom\) whose .*; set the probability of each"
    ) as refused:
        with_set(own, "augmentation.strength=2")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", ["[0, 56, 40]", '"small"', "[40]"])
def test_a_patch_that_nothing_fits_is_refused_as_one(plan, value):
    with pytest.raises(PlanError, match=r"configurations\.3d_fullres.*patch_size") as refused:
        with_set(plan, f"configurations.3d_fullres.patch_size={value}")
    assert "\n" not in str(refused.value)
    assert "augmentation" not in str(refused.value)
