"""What a resumed run may change, and what it may not."""

import json
import shutil
import signal

import numpy as np
import pytest

from alexnet_tf.training import distribution, loop, resuming, validation
from alexnet_tf.training.validation import Validation


def _progress_file(workdir):
    return max(workdir.glob("checkpoints/step-*")) / "progress.json"


def test_other_data_of_the_same_shape_is_refused(
    tiny_run, stop_at, small_photo_records, tmp_path, capsys
):
    run = tiny_run()
    with pytest.raises(loop.Interrupted):
        loop.train(run, callbacks=[stop_at(2)])
    other = tmp_path / "other"
    shutil.copytree(small_photo_records, other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["shards"][0]["sha256"] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"started on other data .*use the same --data_dir"):
        loop.train(tiny_run(data_dir=str(other)))
    file = _progress_file(tmp_path / "run")
    content = json.loads(file.read_text())
    del content["data"], content["arithmetic"], content["digest"]  # as older versions wrote it
    file.write_text(json.dumps(content))
    loop.train(run)
    assert "which did not record its data" in capsys.readouterr().err
    assert json.loads(_progress_file(tmp_path / "run").read_text())["data"]


def test_other_arithmetic_is_said(tiny_run, stop_at, tmp_path, capsys, monkeypatch):
    run = tiny_run()
    with pytest.raises(loop.Interrupted):
        loop.train(run, callbacks=[stop_at(2)])
    here = resuming.arithmetic()
    assert here["threads"] >= 1 and here["onednn"] in (True, False)
    monkeypatch.setattr(resuming, "arithmetic", lambda *_: {**here, "threads": 99})
    loop.train(run)
    said = capsys.readouterr().err
    assert f"threads was {here['threads']} and is 99" in said and "not bit for bit" in said


@pytest.mark.parametrize(
    "fields",
    [
        {"schedule": "constant"},
        {"schedule": "steps", "rate_steps": ((1, 1e-4),), "warmup_epochs": 0.7},
        {"schedule": "plateau", "patience": 1},
    ],
    ids=lambda fields: fields["schedule"],
)
def test_more_epochs_continue_a_finished_run(fields, tiny_run, saved_weights, capsys):
    loop.train(tiny_run(epochs=1, **fields))
    assert loop.train(tiny_run(epochs=2, **fields))["epochs"] == 2
    assert "continues to epoch 2" in capsys.readouterr().err
    loop.train(tiny_run("straight", epochs=2, **fields))
    expected = saved_weights("straight")
    for path, found in saved_weights().items():
        np.testing.assert_array_equal(found, expected[path], err_msg=path)
    with pytest.raises(ValueError, match="epochs was 2 and is 1"):
        loop.train(tiny_run(epochs=1, **fields))


def test_more_epochs_of_a_cosine_are_another_run(tiny_run):
    loop.train(tiny_run(epochs=1, schedule="cosine"))
    with pytest.raises(
        ValueError, match=r"cosine schedule of the run in .* falls to zero at its l"
    ):
        loop.train(tiny_run(epochs=2, schedule="cosine"))


def test_a_run_stops_in_its_validation_and_goes_on_to_the_same_bits(
    tiny_run, tmp_path, saved_weights, monkeypatch
):
    monkeypatch.setattr(validation, "_MOST_IMAGES", 16)  # several batches
    loop.train(tiny_run("straight", batch_size=16))
    looks = []

    def interrupted(self, stop):
        step, self.step = self.step, lambda *batch: looks.append(1) or _signal(step, batch)
        return errors(self, stop)

    def _signal(step, batch):
        signal.raise_signal(signal.SIGTERM)
        return step(*batch)

    errors = Validation.errors
    with monkeypatch.context() as patch:
        patch.setattr(Validation, "errors", interrupted)
        with pytest.raises(loop.Interrupted, match=r"step 9 as asked, and saved it"):
            loop.train(tiny_run(batch_size=16))
    assert len(looks) == 1  # of three batches
    content = json.loads(_progress_file(tmp_path / "run").read_text())
    assert content["step"] == 9 and content["history"] == []
    loop.train(tiny_run(batch_size=16))
    expected = saved_weights("straight")
    for path, found in saved_weights().items():
        np.testing.assert_array_equal(found, expected[path], err_msg=path)
    rows = [
        [line.rsplit(",", 2)[0] for line in (tmp_path / name / "metrics.csv").open()]
        for name in ("straight", "run")
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 3


@pytest.mark.parametrize("other", ["mirrored", "towers"])
def test_a_run_goes_on_under_another_strategy(other, tiny_run, stop_at, saved_weights, tmp_path):
    """One device, two, one again: the results of one all the time, to the order of sums."""
    fields = {"learning_rate": 1e-5, "dropout": 0.5, "epochs": 2, "batch_size": 24}
    straight = loop.train(tiny_run("straight", **fields))
    for strategy, step in (("none", 4), (other, 8), ("none", None)):
        made = distribution.make_strategy(strategy)
        if step:
            with pytest.raises(loop.Interrupted):
                loop.train(tiny_run(**fields), made, [stop_at(step)])
        else:
            elastic = loop.train(tiny_run(**fields), made)
    for name in ("loss", "validation_loss"):
        assert elastic[name] == pytest.approx(straight[name], rel=1e-5)
    loop.train(tiny_run("start", **{**fields, "epochs": 1, "learning_rate": 1e-30}))
    start, one, several = (saved_weights(name) for name in ("start", "straight", "run"))
    for path in start:
        moved, apart = one[path] - start[path], one[path] - several[path]
        assert np.linalg.norm(apart) <= 1e-3 * np.linalg.norm(moved), path
