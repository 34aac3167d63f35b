import threading

from tumorseg.engine.stopwatch import Stopwatch


def test_parts_add_up_also_from_several_threads_and_after_an_error():
    stopwatch = Stopwatch()
    threads = [threading.Thread(target=stopwatch.add, args=("network", 0.5)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        with stopwatch.part("read"):
            raise ValueError
    except ValueError:
        pass
    assert stopwatch.seconds["network"] == 2.0
    assert stopwatch.seconds["read"] >= 0.0
