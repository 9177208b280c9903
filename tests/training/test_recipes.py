"""Recipes refuse numbers out of range, through the command's flags."""

import pytest

from alexnet_tf import train


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--warmup_epochs=nan", "warmup_epochs is nan: expected a number of 0 or more"),
        ("--warmup_epochs=-1", "warmup_epochs is -1.0"),
        ("--warmup_epochs=1", "which the plateau schedule does not have"),
        ("--weight_decay=nan", "weight_decay is nan"),
        ("--weight_decay=-0.1", "weight_decay is -0.1"),
        ("--layer_weight_decay=fc6:nan", "layer_weight_decay of fc6 is nan"),
        ("--momentum=nan", "momentum is nan: expected 0 to 1"),
        ("--momentum=2", "momentum is 2.0"),
        ("--learning_rate=nan", "learning_rate is nan"),
        ("--learning_rate=inf", "learning_rate is inf"),
        ("--bias_learning_rate=-1", "bias_learning_rate is -1.0"),
        ("--body_learning_rate=nan", "body_learning_rate is nan"),
        ("--dropout=nan", "dropout is nan"),
        ("--rate_steps=3:0.1,1:0.01", "rate_steps names the epochs 3.0, 1.0"),
        ("--rate_steps=nan:0.1", "rate_steps names the epochs nan"),
        ("--rate_steps=1:0", "rate_steps has the rate 0.0 from epoch 1.0 on: expected more than"),
        ("--conv1_rate_steps=1:0.1", "conv1_rate_steps need schedule=steps, and the schedule is"),
        ("--crop_size=0", "crop_size is 0: expected 1 or more"),
        ("--colour_noise_epochs=-2", "colour_noise_epochs is -2"),
        ("--seed=-1", "--seed=-1: expected a number from 0 to"),
    ],
)
def test_numbers_out_of_range_are_refused(flag, said, capsys):
    assert train.main(["--recipe=paper", "--data_dir=nowhere", flag]) == 2
    assert said in capsys.readouterr().err
