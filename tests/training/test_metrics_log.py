"""What a run writes for TensorBoard."""

from pathlib import Path

import pytest

from latadj_jax.training.metrics_log import MetricsLog


def events_of(file: Path) -> list:
    """The events of a file, whose records are 8 bytes of length, 4 of checksum, event, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, events = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:8], "little")
        events.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return events


@pytest.mark.parametrize(("start", "steps"), [(0, (1, 2, 3)), (2, (3,))])
def test_events_hold_the_loss_and_from_which_step_on_older_ones_are_void(tmp_path, start, steps):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import SessionLog

    log = MetricsLog(tmp_path, start, tensorboard=True)
    for step in steps:
        log.write(step, loss=0.5)
    log.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    events = events_of(file)
    losses = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
    assert losses == [(step, "loss", 0.5) for step in steps]
    begun = [e.step for e in events if e.session_log.status == SessionLog.START]
    assert begun == [start + 1]
