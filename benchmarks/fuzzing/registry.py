"""All targets by name."""

from benchmarks.fuzzing import cases, dicom, documents, images, stores
from benchmarks.fuzzing.targets import Target

TARGETS: dict[str, Target] = {
    **images.TARGETS,
    **dicom.TARGETS,
    **documents.TARGETS,
    **stores.TARGETS,
    **cases.TARGETS,
}
