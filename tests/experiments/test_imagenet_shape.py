"""From a folder of ImageNet's shape to a verdict: 1,000 classes of hard-linked images.

With ALEXNET_TF_IMAGENET=full the folder has ILSVRC-2012's 1,281,167 training and 50,000 validation
images; without it, twenty and two of each class.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from alexnet_tf.data import imagenet
from alexnet_tf.data.records import open_dataset

FULL = os.environ.get("ALEXNET_TF_IMAGENET") == "full"
SIZE = 112  # pixels; crops of smoke runs have 96
TRAIN = imagenet.ILSVRC_2012.train if FULL else 20 * imagenet.CLASSES
VALIDATION = 50_000 if FULL else 2 * imagenet.CLASSES


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """train/SYNSET/*.jpg and val/SYNSET/*.jpg: links to one small original of each class."""
    root = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    synsets = imagenet.class_synsets()
    for index, synset in enumerate(synsets):
        original = root / "originals" / f"{synset}.jpg"
        original.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).resize((SIZE, SIZE)).save(
            original
        )
        for split, count in (("train", TRAIN), ("val", VALIDATION)):
            folder = root / "folders" / split / synset
            folder.mkdir(parents=True)
            of_class = count // len(synsets) + (index < count % len(synsets))
            for number in range(of_class):
                os.link(original, folder / f"{synset}_{number}.jpg")
    return root / "folders"


def run(*arguments):
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_from_a_folder_of_imagenets_shape_to_a_verdict(source, tmp_path):
    data, workdir = str(tmp_path / "data"), str(tmp_path / "work")
    flags = [f"--source={source}", f"--output={data}", f"--image_size={SIZE}"]
    # All links of a class are one image: nothing here looks for images shared between splits.
    run("data_prep.convert", *flags)
    dataset = open_dataset(data)
    assert dataset.classes == 1000
    assert dataset.counts == {"train": TRAIN, "validation": VALIDATION}

    flags = ["alexnet_tf.reproduce", "table1", f"--data_dir={data}", f"--workdir={workdir}"]
    said = run(*flags, "--scale=smoke", "--plan", "--plan_seconds=2")
    assert "loss 6.908, top-1 error 99.9%, top-5 error 99.5%" in said
    assert "first checkpoint, at a step that is not stated: loss 5.305, top-1 error 93.9%" in said
    with open(os.path.join(workdir, "plan.json"), encoding="utf-8") as file:
        assert json.load(file)["hours_in_all"] > 0

    said = run(*flags, "--scale=smoke")
    (page,) = (word for word in said.split() if word.endswith("verdict.html"))
    with open(page, encoding="utf-8") as file:
        content = file.read()
    told = "ILSVRC-2012 validation" if FULL else "1000 classes, 20,000 training"
    assert told in content and "What was off on the way" in content
