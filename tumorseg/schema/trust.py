"""Trust in a prediction: what is measured of a case, what a model's training cases taught, and the verdict."""

from typing import Annotated, Literal

from pydantic import Field

from tumorseg.schema.base import Record
from tumorseg.schema.dataset import ChannelKind
from tumorseg.schema.metrics import Amount

NUM_DSC_FEATURES = 4
"""Of a prediction, from which its DSC is predicted."""
LEVEL_PERCENTILES = (5, 25, 50, 75, 95)
"""Of a channel's intensities in the body that a profile keeps."""
NUM_LEVELS = len(LEVEL_PERCENTILES)

Share = Annotated[float, Field(ge=0, le=1)]
Features = Annotated[tuple[float, ...], Field(min_length=NUM_DSC_FEATURES, max_length=NUM_DSC_FEATURES)]
"""A number for each."""
Encoded = str
"""Numbers as base64, as they are many and nobody reads them."""


class ChannelProfile(Record):
    """One channel of an image."""

    is_absent: bool = False
    """Whether the case lacks it on purpose, so that nothing is to be said of it."""
    levels: Annotated[tuple[float, ...], Field(min_length=NUM_LEVELS, max_length=NUM_LEVELS)] | None = None
    """Percentiles (`LEVEL_PERCENTILES`) of the intensities in the body, in the image's own unit; null where every voxel is alike."""
    share_zero: Share = 0.0
    """Of voxels that are 0."""
    thumbnail: Encoded | None = None
    """What the body holds, small and normalised (`ops/trust/thumbnails.py`); null where every voxel is alike."""
    overview: Encoded | None = None
    """The same of the whole image, background and all."""

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is seen in a channel that should be there."""
        return self.levels is None and not self.is_absent


class ImageProfile(Record):
    """What is kept of an image to compare it with others; axes are in the plan's order."""

    spacing_mm: tuple[float, float, float]
    """Voxel edges."""
    shape: tuple[int, int, int]
    """Voxels."""
    body_mm: tuple[float, float, float]
    """Extent of the body: of what is no background in some channel."""
    edges: tuple[tuple[Share, Share], tuple[Share, Share], tuple[Share, Share]]
    """How much of the body lies in the first and the last slice along each axis, of the most in any slice."""
    channels: tuple[ChannelProfile, ...]
    """As planned."""
    correlations: tuple[float | None, ...] = ()
    """Of the intensities of each pair of channels (0 and 1, 0 and 2, …) in the body; null where one of them shows nothing."""


class NameFeatures(Record):
    """What a prediction says of one of its labels or regions."""

    expected_dsc: Share | None
    """DSC with a truth that the probabilities are true of: 2 sum(p y) / (sum p + sum y); null where nothing was found."""
    agreement: Share | None
    """The same of the shares of members (folds and views) that voted for each voxel; null without votes, or where nothing was found."""
    entropy: Share | None
    """Mean over the mask of how evenly the probabilities are spread; null where nothing was found."""
    volume_mm3: Amount
    """Of what was found."""
    largest_probability: Share
    """Of any voxel: where nothing was found, how close it was."""
    by_postprocessing: Literal["removed", "added"] | None = None
    """Whether all that was found was taken away afterwards, or there is some in the final mask though nothing was found."""

    @property
    def is_missing(self) -> bool:
        """Return whether the final mask has none of it."""
        return self.expected_dsc is None and self.by_postprocessing != "added"


class TrustCase(Record):
    """An out-of-fold case, from which trust is learned; nothing of it but this needs to be kept."""

    case_id: str
    group: str | None = None
    """Patient, where there may be several cases of one: they count once where the threshold is set."""
    part: int
    """Fold that held it out, patients whole: images of one part are judged by what the others teach."""
    image: ImageProfile
    features: dict[str, NameFeatures] = Field(default_factory=dict)
    """Label or region to what the prediction of a fold says that did not see the case; empty where images alone are judged."""
    dsc: dict[str, Share | None] = Field(default_factory=dict)
    """Label or region to the real DSC; null where neither mask holds any."""


class TrustSubject(Record):
    """What a profile is of."""

    channels: tuple[str, ...]
    """Names, as planned."""
    kinds: tuple[ChannelKind | None, ...]
    """Of the channels."""
    axes: tuple[str, str, str]
    """Names of the axes in the plan's order, for messages: `Z (foot to head)`."""


RuleKind = Literal["spacing", "extent", "body", "edge", "level", "zeros", "correlation", "fit", "flip", "swap", "empty"]
"""spacing, extent, body: logarithms of mm along an axis. edge: share of the body's largest slice in the outermost one. level: a percentile in the body, HU, or its logarithm where the unit is arbitrary.
zeros: share of voxels. correlation: of two channels. fit: of a channel to the training's mean. flip, swap: how much
better an image fits as it is than mirrored, or with two channels exchanged. empty: 1 where a channel shows nothing."""


class Rule(Record):
    """What is usual of one measurement; the more unusual, the higher its score, from 1 on unusual by itself."""

    kind: RuleKind
    of: tuple[int, ...]
    """Axis; axis and end; channel; channel and position of the percentile; two channels."""
    center: float
    """Median of the training images."""
    spread: float = Field(gt=0)
    """Robust standard deviation, never less than what is too little to matter."""
    unit: float = Field(gt=0)
    """Spreads from the centre that score 1."""
    low: float
    """Percentile 5 of the training images, in natural units, for messages."""
    high: float
    """Percentile 95."""


class Direction(Record):
    """Weights that tell an image from the same one mirrored, or with two channels exchanged."""

    kind: Literal["flip", "swap"]
    of: tuple[int, ...]
    """Axis, or two channels."""
    weights: Encoded
    """float32, one for each number that is compared."""
    noises: tuple[Annotated[float, Field(gt=0)], ...]
    """Of each aspect that is compared: it is divided by it."""


class ImageRules(Record):
    """What the training's images look like."""

    units: tuple[Annotated[float, Field(gt=0)] | None, ...]
    """Intensity of each channel below which levels are not told apart; null for Hounsfield units, which are compared as they are."""
    common_unit: float = Field(gt=0)
    """The same for channels that are compared with each other."""
    absolute: tuple[bool, ...]
    """Whether intensities of a channel mean something by themselves (CT, PET), so that two channels can be told apart by them."""
    templates: tuple[Encoded | None, ...]
    """Mean thumbnail of each channel, float32; null where no case shows any."""
    directions: tuple[Direction, ...]
    rules: tuple[Rule, ...]
    """Those that can tell anything: none for axes along which the training's images look the same both ways."""


class Linear(Record):
    """A linear function of standardised features, of the logarithm of the odds of a DSC."""

    intercept: float
    coefficients: Features


class DscRule(Record):
    """How the DSC of a label or region follows from a prediction's features."""

    num_cases: int
    """From which it was learned."""
    centers: Features
    """Means of the features."""
    scales: Features
    """Their standard deviations."""
    lows: Features
    """Least of each that was seen: beyond, only the expected DSC counts further."""
    highs: Features
    """Greatest."""
    linear: Linear
    """Of all cases."""
    parts: tuple[Linear, ...]
    """Of all cases but those of one part each; parts hold cases of all folds."""
    residuals: tuple[tuple[float, ...], ...]
    """Of the cases of that part: log odds that were found, less those that the others predict."""
    spearman: float | None
    """Rank correlation of predicted and real DSC, each predicted from other parts; null where all are alike."""
    mean_error: Amount
    """Mean absolute difference of the two."""
    threshold: Share | None
    """Predicted DSC below which a case is to be reviewed; null where predictions are too weak to tell."""


class TrustProfile(Record):
    """`trust.json`: what the training's cases teach of trust in others."""

    schema_version: Literal[1] = 1
    num_cases: int = Field(ge=1)
    """Out-of-fold cases."""
    subject: TrustSubject
    image: ImageRules
    dsc: dict[str, DscRule] = Field(default_factory=dict)
    """Label or region to how its DSC is predicted; names with too few cases are not there."""
    always_found: tuple[str, ...] = ()
    """Names of which something was found in nearly every sound case."""
    threshold: float = Field(gt=0)
    """Scores above it are to be reviewed."""
    num_sound: int = Field(ge=0)
    """Out-of-fold cases whose masks were as good as usual; all where nothing is known of masks."""
    num_flagged: int = Field(ge=0)
    """Those of them that would be reviewed."""


class PredictedDsc(Record):
    """What DSC is to be expected of a label or region."""

    value: Share
    low: Share | None
    """Lower end of the 90 % interval; null where cases are too few for one."""
    high: Share | None
    """Upper end."""


class CaseTrust(Record):
    """How far a case is to be trusted."""

    review: str | None
    """Why a person should look at it; null where nothing is unusual."""
    distance: Amount
    """Of its image from the training's: above 1 it is to be reviewed."""
    predicted_dsc: dict[str, PredictedDsc | None]
    """Label or region to the DSC that is expected; null where nothing was found, or where too little is known."""
    agreement: dict[str, Share | None]
    """Label or region to how well members (folds and views) agree; null without votes, or where nothing was found."""
    missed: dict[str, Share]
    """Label or region of which nothing was found to the largest probability of any voxel."""
