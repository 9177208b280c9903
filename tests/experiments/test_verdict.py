"""From a data set to a verdict: the plan, what is off on the way, and the page at the end."""

import json
import os

import numpy as np
import pytest

from alexnet_tf import reproduce as reproduce_command
from alexnet_tf.experiments import milestones, published, verdict
from alexnet_tf.experiments.results import SCALES, Context
from alexnet_tf.training import recipes, reports


def test_a_plan_is_measured_and_a_verdict_is_written(photo_records, tmp_path, capsys):
    workdir = str(tmp_path / "table1")
    flags = ["table1", f"--data_dir={photo_records}", f"--workdir={workdir}", "--scale=smoke"]
    assert reproduce_command.main([*flags, "--plan", "--plan_seconds=2"]) == 0
    text = capsys.readouterr().out
    with open(os.path.join(workdir, "plan.json"), encoding="utf-8") as file:
        plan = json.load(file)
    assert f"{plan['images_per_second']['training']['median']:.1f} images/s" in text
    assert "before training: chance level: loss 2.639, top-1 error 92.9%" in text
    # A network's own bytes, four times with its velocity, and once alone.
    state = 4 * plan["parameters"]
    assert 4 * 2 * state <= plan["disk_bytes"] - state < 4 * 2 * state + 4096
    assert not os.path.exists(os.path.join(workdir, "networks"))  # nothing was trained

    assert reproduce_command.main(flags) == 0
    page = next(part for part in capsys.readouterr().out.split() if part.endswith("verdict.html"))
    with open(page, encoding="utf-8") as file:
        content = file.read()
    assert plan["fingerprint"] in content and "17.0 %" in content and "data:image/png" in content
    assert "smoke run" in content and "divided by 16" in content
    with open(os.path.join(os.path.dirname(page), "config.json"), encoding="utf-8") as file:
        recipe = json.load(file)["recipe"]
    assert f"Recipe: epochs is {recipe['epochs']}; the authors&#x27; is 91." in content


def test_only_table1_has_a_plan(capsys):
    assert reproduce_command.main(["fig1", "--plan"]) == 2
    assert "--plan is of table1" in capsys.readouterr().err


def _row(**changes):
    row = {"loss": 3.0, "top1_error": 0.6, "validation_top1_error": 0.65, "seconds": 10.0}
    return {**row, **changes}


def test_what_is_off_is_said_with_how_much():
    assert milestones.warnings(_row(), 1000) == []
    assert milestones.warnings(_row(validation_top1_error=None), 1000) == []
    (flat,) = milestones.warnings(
        _row(loss=7.0, top1_error=0.999, validation_top1_error=0.93), 1000
    )
    assert "7.000, 0.092 above chance level (6.908)" in flat
    late = _row(top1_error=0.95, validation_top1_error=0.96)
    (above,) = milestones.warnings(late, 1000)
    assert "96.0%, 2.1 points above 93.9%" in above and "cuda-convnet2" in above
    (apart,) = milestones.warnings(_row(top1_error=0.3), 1000)
    assert "35.0 points above the training error" in apart
    (chance,) = milestones.warnings(_row(loss=1.5, top1_error=0.8, validation_top1_error=0.8), 5)
    assert "no better than chance" in chance


def test_slow_epochs_are_reported(capsys):
    compare = milestones.Compare(classes=1000, planned_seconds=10.0)
    compare.on_epoch_end(0, _row(seconds=12.0))
    assert not capsys.readouterr().err
    compare.on_epoch_end(1, _row(seconds=15.0))
    assert "epoch 2 took 1.50 times as long as planned" in capsys.readouterr().err


def test_a_plan_is_of_one_network(tmp_path):
    context = Context("d", "photographs", str(tmp_path), SCALES["full"], (0,))
    assert context.planned_seconds("alexnet_145") is None
    plan = {"network": "alexnet_145", "seconds_per_epoch": 10.0}
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    assert context.planned_seconds("alexnet_145") == 10.0
    assert context.planned_seconds("alexnet_145_half") is None


def test_milestones_are_the_published_ones():
    found = milestones.milestones(1000)
    assert found[0].loss == pytest.approx(np.log(1000)) and found[0].top5_error == 0.995
    assert tuple(found[1:]) == published.MILESTONES
    assert len(milestones.milestones(10)) == 1


def test_the_authors_run_on_imagenet_deviates_only_where_it_must(tmp_path):
    context = Context("d", published.VALIDATION_2012, str(tmp_path), SCALES["full"], (0,))
    recipe = reports.as_json(recipes.SOURCE_145.__dict__)
    assert len(verdict.deviations(context, recipe, 1000, 1_281_167)) == 2
    recipe["dropout"] = 0.1
    assert "dropout is 0.1; the authors' is 0.5" in verdict.deviations(context, recipe, 1000, 1)[-1]
