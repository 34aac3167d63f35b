import torch

from tests.engine.phantoms import batch_of
from tumorseg.engine.learner import Inputs
from tumorseg.engine.side_stream import SideStream


def test_on_a_cpu_there_is_no_stream_and_work_is_done_at_once():
    stream = SideStream(torch.device("cpu"))
    images, segmentations = batch_of()
    expected = images.clone() + 1
    with stream.work():
        images.add_(1)
        stream.wait()
    stream.hand_over(Inputs(images, segmentations))
    assert torch.equal(images, expected)
