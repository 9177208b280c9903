"""Checkpoints are atomic; damage is detected, and damaged ones are replaced."""

import json
import random
import resource
import shutil

import pytest
import tensorflow as tf

from alexnet_tf.training.checkpoints import Checkpoints, Progress


class _Saved:
    """Checkpoints of one number."""

    def __init__(self, directory):
        self.directory = directory
        self.variable = tf.Variable(0.0)
        self.checkpoints = Checkpoints(directory, tf.train.Checkpoint(v=self.variable))

    def save(self, step, best=False, **fields):
        self.variable.assign(step)
        self.checkpoints.save(Progress(step=step, model="m", **fields), best)

    def restore(self):
        self.variable.assign(-1)
        return self.checkpoints.restore("m")


@pytest.fixture
def saved(tmp_path):
    return _Saved(tmp_path / "checkpoints")


def _damage(saved, step):
    data = saved.checkpoints.path(step) / "state.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1] + b"?")


def test_any_flipped_bit_of_the_progress_is_noticed(saved):
    history = [{"epoch": 1, "loss": 0.5, "validation_top1_error": None}]
    saved.save(1)
    saved.save(37, sums={"images": 592, "loss": 12.25}, history=history, recipe={"epochs": 3})
    file = saved.checkpoints.path(37) / "progress.json"
    sound = file.read_bytes()
    draw = random.Random(7)
    for _ in range(200):
        changed = bytearray(sound)
        changed[draw.randrange(len(sound))] ^= 1 << draw.randrange(8)
        file.write_bytes(changed)
        progress = _Saved(saved.directory).restore()
        if progress.step == 37:  # a space became another, or the case of an escape
            assert json.loads(changed) == json.loads(sound)
        else:
            assert progress.step == 1


def test_a_directory_with_anothers_progress_is_damaged(saved):
    saved.save(1)
    saved.save(2)
    shutil.copy(saved.checkpoints.path(1) / "progress.json", saved.checkpoints.path(2))
    assert saved.restore().step == 1


def test_checkpoints_without_a_digest_still_load(saved):
    saved.save(5)
    file = saved.checkpoints.path(5) / "progress.json"
    content = json.loads(file.read_text())
    for new in ("digest", "data", "arithmetic"):
        del content[new]
    file.write_text(json.dumps(content))
    progress = saved.restore()
    assert (progress.step, progress.data, progress.arithmetic) == (5, "", {})
    assert saved.variable.numpy() == 5


def test_copies_and_other_names_do_not_count(saved):
    saved.save(90)
    shutil.copytree(saved.checkpoints.path(90), saved.directory / "step-000000090.bak")
    (saved.directory / "step-by-step.txt").write_text("notes")
    assert saved.checkpoints.steps() == [90]
    assert saved.restore().step == 90


def test_a_damaged_checkpoint_is_replaced(saved):
    for step in (100, 200):
        saved.save(step, best=step == 200)
    _damage(saved, 200)
    again = _Saved(saved.directory)
    assert again.restore().step == 100
    assert again.checkpoints.best() is None  # it was the damaged one
    again.save(150)
    # The damaged one does not take a whole one's place.
    assert again.checkpoints.steps() == [100, 150, 200]
    again.save(200, best=True)
    assert again.checkpoints.steps() == [150, 200]
    last = _Saved(saved.directory)
    assert last.restore().step == 200 and last.variable.numpy() == 200
    assert last.checkpoints.best() == 200


def test_saving_a_step_again_changes_its_progress_only(saved):
    saved.save(3, sums={"loss": 1.0})
    data = saved.checkpoints.path(3) / "state.data-00000-of-00001"
    before = data.stat().st_mtime_ns
    saved.save(3, history=[{"epoch": 1}])
    assert data.stat().st_mtime_ns == before
    progress = _Saved(saved.directory).restore()
    assert progress.history == [{"epoch": 1}] and progress.sums == {}


def test_the_last_good_checkpoint_is_named_only_where_there_is_one(saved):
    assert saved.checkpoints.last_good() == "No checkpoint had been saved yet"
    saved.save(1)
    saved.save(2)
    _damage(saved, 2)
    saved.restore()
    assert saved.checkpoints.last_good().startswith("The last good checkpoint is that of step 1 in")


def test_checkpoints_keep_the_newest_and_the_best(saved):
    for step in range(1, 6):
        saved.save(step, best=step == 2)
    assert saved.checkpoints.steps() == [2, 4, 5]
    assert saved.restore().step == 5 and saved.variable.numpy() == 5


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path):
    """The system itself refuses to let a file grow, in the middle of TensorFlow's writing."""
    variable = tf.Variable(tf.ones(100_000))
    checkpoints = Checkpoints(tmp_path / "c", tf.train.Checkpoint(v=variable))
    checkpoints.save(Progress(step=1, model="m"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"step 2 could not be written.*free some space"):
            checkpoints.save(Progress(step=2, model="m"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoints.steps() == [1]
    assert not list((tmp_path / "c").glob(".writing*"))
    checkpoints.save(Progress(step=2, model="m"))
    assert checkpoints.restore("m").step == 2
