"""From a transform's name to its two halves."""

from tumorseg.augmentation.acquisition import apply_fov, apply_missing, draw_fov, draw_missing
from tumorseg.augmentation.cascade import apply_morphology, apply_removal, draw_corruption
from tumorseg.augmentation.copy_paste import apply_copy_paste, draw_copy_paste
from tumorseg.augmentation.ct import apply_hu_shift, apply_streaks, draw_hu_shift, draw_streaks
from tumorseg.augmentation.histograms import apply_clahe, apply_equalization, draw_clahe, draw_equalization
from tumorseg.augmentation.intensity import (
    apply_brightness,
    apply_contrast,
    apply_gamma,
    apply_noise,
    draw_factors,
    draw_gamma,
    draw_noise,
)
from tumorseg.augmentation.kspace import (
    apply_ghosting,
    apply_gibbs,
    apply_spikes,
    draw_ghosting,
    draw_gibbs,
    draw_spikes,
)
from tumorseg.augmentation.motion import apply_motion, draw_motion
from tumorseg.augmentation.mr import (
    apply_bias_field,
    apply_rician_noise,
    apply_slice_jumps,
    draw_bias_field,
    draw_rician_noise,
    draw_slice_jumps,
)
from tumorseg.augmentation.outside import apply_outside, body_of, draw_outside
from tumorseg.augmentation.resolution import apply_blur, apply_thick, apply_zoom, draw_blur, draw_thick, draw_zoom
from tumorseg.augmentation.samples import Transform
from tumorseg.augmentation.spatial import apply_mirror, apply_spatial, draw_mirror, draw_spatial, spatial_source_size

TRANSFORMS: dict[str, Transform] = {
    "spatial": Transform(draw_spatial, apply_spatial, spatial_source_size, makes_new=True),
    "mirror": Transform(draw_mirror, apply_mirror, makes_new=True),
    "gaussian_noise": Transform(draw_noise, apply_noise),
    "gaussian_blur": Transform(draw_blur, apply_blur),
    "brightness": Transform(draw_factors, apply_brightness),
    "contrast": Transform(draw_factors, apply_contrast),
    "low_resolution": Transform(draw_zoom, apply_zoom),
    "gamma": Transform(draw_gamma, apply_gamma),
    "thick_slices": Transform(draw_thick, apply_thick),
    "zero_outside": Transform(draw_outside, apply_outside, layer=body_of),
    "bias_field": Transform(draw_bias_field, apply_bias_field),
    "rician_noise": Transform(draw_rician_noise, apply_rician_noise),
    "motion": Transform(draw_motion, apply_motion),
    "ghosting": Transform(draw_ghosting, apply_ghosting),
    "gibbs": Transform(draw_gibbs, apply_gibbs),
    "spikes": Transform(draw_spikes, apply_spikes),
    "slice_jumps": Transform(draw_slice_jumps, apply_slice_jumps),
    "hu_shift": Transform(draw_hu_shift, apply_hu_shift),
    "streaks": Transform(draw_streaks, apply_streaks),
    "clahe": Transform(draw_clahe, apply_clahe),
    "histogram_equalization": Transform(draw_equalization, apply_equalization),
    "missing_channel": Transform(draw_missing, apply_missing),
    "reduced_fov": Transform(draw_fov, apply_fov),
    "copy_paste": Transform(draw_copy_paste, apply_copy_paste),
    "previous_morphology": Transform(draw_corruption, apply_morphology),
    "previous_removal": Transform(draw_corruption, apply_removal),
}
