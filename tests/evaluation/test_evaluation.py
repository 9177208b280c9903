"""Errors are counted over exactly the images of a split, and equal NumPy's on the same pixels."""

import dataclasses
import json
import math
import os
import pathlib
import shutil
import tempfile

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from alexnet_tf import evaluate as evaluate_command
from alexnet_tf import evaluation
from alexnet_tf.data import imagenet, records

SIZE, CROP, CLASSES = 64, 56, 7


def colour_network(seed=1, crop=CROP, classes=CLASSES, channels=3):
    """A softmax over the mean colour of the image's quarters; few weights, real images."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((crop, crop, channels))
    hidden = keras.layers.Rescaling(1 / 64.0)(inputs)
    hidden = keras.layers.AveragePooling2D(crop // 2)(hidden)
    hidden = keras.layers.Flatten()(hidden)
    outputs = keras.layers.Dense(classes, kernel_initializer="glorot_normal")(hidden)
    return keras.Model(inputs, keras.layers.Softmax(name="prob")(outputs))


def by_hand(network, views):
    """The network's arithmetic in float64 NumPy: views (n, h, w, 3) -> probabilities (n, 7)."""
    weights, bias = (w.astype(np.float64) for w in network.get_weights())
    half = views.shape[1] // 2
    quarters = views.astype(np.float64).reshape(len(views), 2, half, 2, half, 3).mean((2, 4)) / 64
    logits = quarters.reshape(len(views), -1) @ weights + bias
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def ten_views(image, crop):
    """Four corners, centre, mirrors, written out by hand."""
    end = image.shape[0] - crop
    middle = end // 2
    views = [
        image[:crop, :crop],
        image[:crop, end:],
        image[middle : middle + crop, middle : middle + crop],
        image[end:, :crop],
        image[end:, end:],
    ]
    return np.stack(views + [view[:, ::-1] for view in views])


def mirrored_strategy():
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or []) < 2:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


# Logical devices exist only when asked for before TensorFlow computes anything.
STRATEGY = mirrored_strategy()


@pytest.mark.parametrize("crops", [1, 10])
@pytest.mark.parametrize("replicas", [1, 2])
def test_every_image_counts_once_and_equals_numpy(make_dataset, crops, replicas):
    # 23 images in batches of 8: the last batch is short, and over two replicas one of them is
    # left with fillers only.
    path, images, labels = make_dataset(23, SIZE, shards=3)
    strategy = STRATEGY if replicas == 2 else tf.distribute.get_strategy()
    with strategy.scope():
        network = colour_network()
    view = evaluation.EvaluationSettings(crops=crops, batch_size=8 * crops)
    found, truths = evaluation.split_probabilities(
        network, records.open_dataset(path), view, strategy
    )
    if crops == 1:
        offset = (SIZE - CROP) // 2
        windows = images[:, offset : offset + CROP, offset : offset + CROP]
        wanted = by_hand(network, windows)
    else:
        wanted = np.stack([by_hand(network, ten_views(p, CROP)).mean(0) for p in images])
    np.testing.assert_array_equal(truths, labels)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    score = evaluation.score(found, truths)
    ranked = np.argsort(-wanted, axis=1)
    assert score.count == 23
    assert score.top1_error == np.mean(ranked[:, 0] != labels)
    assert score.top5_error == np.mean(
        [t not in row for t, row in zip(labels, ranked[:, :5], strict=True)]
    )
    assert score.loss == pytest.approx(-np.log(wanted[np.arange(23), labels]).mean(), abs=1e-5)


def test_an_ensemble_averages_probabilities_and_not_votes(make_dataset, tmp_path):
    path, images, labels = make_dataset(14, SIZE)
    files, wanted = [], 0
    offset = (SIZE - CROP) // 2
    windows = images[:, offset : offset + CROP, offset : offset + CROP]
    for seed in (1, 2, 3):
        network = colour_network(seed)
        files.append(str(tmp_path / f"m{seed}.keras"))
        network.save(files[-1])
        wanted = wanted + by_hand(network, windows) / 3
    results = evaluation.evaluate(files, path, evaluation.EvaluationSettings(batch_size=4))
    assert results["count"] == 14
    assert results["top1_error"] == np.mean(wanted.argmax(1) != labels)
    assert results["loss"] == pytest.approx(-np.log(wanted[np.arange(14), labels]).mean(), abs=1e-5)


def test_jpeg_records_are_decoded_as_pillow_decodes_them(make_dataset):
    import io

    from PIL import Image

    path, _, _ = make_dataset(6, SIZE, encoding="jpeg")
    dataset = records.open_dataset(path)
    network = colour_network()
    found, _ = evaluation.split_probabilities(network, dataset, evaluation.EvaluationSettings())
    decoded = []
    for file in dataset.shards["validation"]:
        for serialized in tf.data.TFRecordDataset(file).as_numpy_iterator():
            features = tf.train.Example.FromString(serialized).features.feature
            decoded.append(
                np.asarray(Image.open(io.BytesIO(features["image"].bytes_list.value[0])))
            )
    windows = np.stack(decoded)[:, 4:60, 4:60]
    # Decoders may round a pixel differently; a whole grey level would show as 0.01 here.
    np.testing.assert_allclose(found, by_hand(network, windows), atol=2e-3)


def test_scores_of_a_case_counted_by_hand():
    probabilities = np.array(
        [
            [0.5, 0.2, 0.1, 0.1, 0.05, 0.05],  # true 0: right
            [0.5, 0.2, 0.1, 0.1, 0.05, 0.05],  # true 1: wrong, in the top five
            [0.3, 0.2, 0.2, 0.1, 0.1, 0.1],  # true 5: tied with 3 and 4, which come first: sixth
            [0.5, 0.5, 0.0, 0.0, 0.0, 0.0],  # true 1: tied with 0, which comes first: wrong
        ]
    )
    score = evaluation.score(probabilities, np.array([0, 1, 5, 1]))
    assert (score.count, score.top1_error, score.top5_error) == (4, 0.75, 0.25)
    assert score.confusions == [(1, 0, 2), (5, 0, 1)]
    np.testing.assert_array_equal(score.class_counts, [1, 2, 0, 0, 0, 1])
    np.testing.assert_array_equal(score.class_errors, [0, 1, np.nan, np.nan, np.nan, 1])


def test_wilson_intervals_equal_scipys():
    from scipy.stats import binomtest

    for wrong, count in [(0, 10), (3, 10), (10, 10), (20350, 50000), (1, 1)]:
        low, high = binomtest(wrong, count).proportion_ci(0.95, method="wilson")
        assert evaluation.wilson_interval(wrong, count) == pytest.approx((low, high), abs=1e-12)


def test_a_network_whose_outputs_are_nan_is_not_scored(make_dataset):
    path, _, _ = make_dataset(4, SIZE)
    network = colour_network()
    network.set_weights([w * np.nan for w in network.get_weights()])
    with pytest.raises(ValueError, match="diverged"):
        evaluation.split_probabilities(
            network, records.open_dataset(path), evaluation.EvaluationSettings()
        )
    with pytest.raises(ValueError, match="NaN"):
        evaluation.score(np.full((2, 3), np.nan), np.array([0, 1]))


def test_a_model_in_another_label_order_is_mapped_by_name(make_dataset, tmp_path):
    path, _, _ = make_dataset(14, SIZE)
    network = colour_network()
    plain = tmp_path / "plain.keras"
    network.save(plain)
    order = np.array([3, 0, 6, 1, 5, 2, 4])  # output i of the other model means class order[i]
    kernel, bias = network.get_weights()
    network.set_weights([kernel[:, order], bias[order]])
    workdir = tmp_path / "run"
    workdir.mkdir()
    network.save(workdir / "model.keras")
    names = [f"n{n:08d}" for n in order]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    wanted = evaluation.evaluate([str(plain)], path, evaluation.EvaluationSettings())
    unmapped = evaluation.evaluate([str(workdir)], path, evaluation.EvaluationSettings())
    by_flag = evaluation.evaluate(
        [str(workdir)],
        path,
        evaluation.EvaluationSettings(),
        label_order=str(tmp_path / "labels.txt"),
    )
    (workdir / "config.json").write_text(json.dumps({"class_names": names}))
    by_config = evaluation.evaluate([str(workdir)], path, evaluation.EvaluationSettings())
    assert unmapped["loss"] != pytest.approx(wanted["loss"], abs=1e-3)
    assert by_flag["loss"] == pytest.approx(wanted["loss"], abs=1e-6)
    assert by_config["loss"] == pytest.approx(wanted["loss"], abs=1e-6)


def _saved(directory, network, names):
    directory.mkdir()
    network.save(directory / "model.keras")
    (directory / "config.json").write_text(json.dumps({"class_names": list(names)}))
    return str(directory)


def _probabilities(network, path):
    view = evaluation.EvaluationSettings()
    return evaluation.split_probabilities(network, records.open_dataset(path), view)


def test_more_outputs_than_the_data_has_classes(make_dataset, tmp_path):
    """Seven classes of the data among eleven outputs, in another order."""
    path, _, _ = make_dataset(14, SIZE)
    network = colour_network(classes=11)
    order = np.array([10, 2, 7, 0, 4, 9, 5])  # of the data's classes
    names = [f"other{n}" for n in range(11)]
    for label, place in enumerate(order):
        names[place] = f"n{label:08d}"
    model = _saved(tmp_path / "run", network, names)
    probabilities, labels = _probabilities(network, path)
    truth = probabilities[np.arange(14), order[labels]]

    found = evaluation.evaluate([model], path, evaluation.EvaluationSettings())
    better = (probabilities > truth[:, None]).sum(axis=1)
    assert found["top1_error"] == (better > 0).mean()
    assert found["top5_error"] == (better >= 5).mean()
    assert found["loss"] == pytest.approx(-np.log(truth).mean())
    assert (found["outputs"], found["output_classes"], found["classes"]) == ("all", 11, 7)
    assert {row["true"] for row in found["most_confused"]} <= {f"n{n:08d}" for n in range(7)}
    wrong = {row["predicted"] for row in found["most_confused"]}
    assert wrong <= set(names)

    few = evaluation.evaluate([model], path, evaluation.EvaluationSettings(), outputs="restricted")
    own = probabilities[:, order] / probabilities[:, order].sum(axis=1, keepdims=True)
    rows = np.arange(14)
    assert few["top1_error"] == (own.argmax(axis=1) != labels).mean()
    assert few["loss"] == pytest.approx(-np.log(own[rows, labels]).mean())
    assert (few["outputs"], few["output_classes"]) == ("restricted", 7)

    # Another network whose outputs are the same classes in a third order.
    shuffled = np.random.default_rng(0).permutation(11)
    kernel, bias = network.get_weights()
    twin = colour_network(classes=11)
    twin.set_weights([kernel[:, shuffled], bias[shuffled]])
    second = _saved(tmp_path / "twin", twin, [names[place] for place in shuffled])
    both = evaluation.evaluate([model, second], path, evaluation.EvaluationSettings())
    assert both["loss"] == pytest.approx(found["loss"], abs=1e-6)
    assert both["top1_error"] == found["top1_error"]
    strange = _saved(tmp_path / "strange", twin, [*names[:-1], "n00000099"])
    with pytest.raises(ValueError, match=r"does not know 1 of the 7 classes .*n00000000"):
        evaluation.evaluate([strange], path, evaluation.EvaluationSettings())
    third = [name.replace("other", "further") for name in names]
    further = _saved(tmp_path / "further", twin, third)
    with pytest.raises(ValueError, match="use --outputs=restricted"):
        evaluation.evaluate([model, further], path, evaluation.EvaluationSettings())
    evaluation.evaluate(
        [model, further], path, evaluation.EvaluationSettings(), outputs="restricted"
    )


def test_ten_classes_of_imagenet_are_found_among_a_thousand(make_dataset, tmp_path, capsys):
    """By synset where the network has no names, and by word where it has words."""
    path, _, _ = make_dataset(4, SIZE, classes=2)
    synsets, words = imagenet.class_synsets(), imagenet.class_names()
    places = [482, 0]  # cassette player, tench
    features = pathlib.Path(path) / "label.labels.txt"
    assert features.read_text().split() == ["n00000000", "n00000001"]
    features.write_text("\n".join(synsets[place] for place in places))
    network = colour_network(classes=1000)
    bare = tmp_path / "bare.keras"
    network.save(bare)
    probabilities, labels = _probabilities(network, path)
    truth = probabilities[np.arange(4), np.array(places)[labels]]
    worded = _saved(tmp_path / "worded", network, [word.replace("_", " ") for word in words])
    for model in (str(bare), worded):
        found = evaluation.evaluate([model], path, evaluation.EvaluationSettings())
        assert found["loss"] == pytest.approx(-np.log(truth).mean())
    code, out, _ = command(capsys, f"--model={bare}", f"--data_dir={path}")
    assert code == 0 and "over all 1000 outputs" in "".join(out)
    flags = [f"--model={bare}", f"--data_dir={path}", "--outputs=restricted"]
    code, out, _ = command(capsys, *flags)
    assert code == 0 and "over the outputs of these classes only" in "".join(out)


def test_a_network_of_small_images_sees_large_ones_whole(make_dataset, tmp_path):
    """Its 24 pixels are cut out of 32, to which images of 128 are brought, as in serving."""
    path, images, labels = make_dataset(7, 128)
    network = colour_network(crop=24)
    network.save(tmp_path / "model.keras")
    names = [f"n{n:08d}" for n in range(CLASSES)]
    (tmp_path / "config.json").write_text(json.dumps({"class_names": names, "image_size": 32}))
    shrunk = images.astype(np.float64).reshape(7, 32, 4, 32, 4, 3).mean((2, 4))
    probabilities = by_hand(network, shrunk[:, 4:28, 4:28])
    found = evaluation.evaluate([str(tmp_path)], path, evaluation.EvaluationSettings())
    assert found["loss"] == pytest.approx(-np.log(probabilities[np.arange(7), labels]).mean())


def test_a_shard_that_lost_its_tail_is_not_evaluated_as_if_whole(make_dataset):
    path, _, _ = make_dataset(10, SIZE)
    shard = os.path.join(path, "imagenet-validation.tfrecord-00001-of-00002")
    kept = list(tf.data.TFRecordDataset(shard).as_numpy_iterator())[:-1]
    with tf.io.TFRecordWriter(shard) as writer:
        for record in kept:
            writer.write(record)
    with pytest.raises(ValueError, match="has 10 images, but its records hold 9"):
        evaluation.split_probabilities(
            colour_network(), records.open_dataset(path), evaluation.EvaluationSettings()
        )


def test_a_flipped_byte_names_the_data_and_the_way_out(make_dataset):
    path, _, _ = make_dataset(10, SIZE)
    shard = os.path.join(path, "imagenet-validation.tfrecord-00001-of-00002")
    with open(shard, "r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 255]))
    with pytest.raises(ValueError, match=r"is damaged.*data_prep\.verify"):
        evaluation.split_probabilities(
            colour_network(), records.open_dataset(path), evaluation.EvaluationSettings()
        )


def command(capsys, *flags):
    code = evaluate_command.main(list(flags))
    captured = capsys.readouterr()
    return code, captured.out, captured.err.strip().splitlines()


def test_the_command_reports_and_writes_json_beside_what_is_there(
    make_dataset, tmp_path, capsys, monkeypatch
):
    path, _, _ = make_dataset(9, SIZE)
    workdir = tmp_path / "run"
    workdir.mkdir()
    colour_network().save(workdir / "model.keras")
    colour_network(2).save(workdir / "other.keras")
    (workdir / "results.json").write_text("training's")
    data = f"--data_dir={path}"
    for crops in (1, 10):
        code, out, _ = command(capsys, f"--model={workdir}", data, f"--crops={crops}")
        assert code == 0
        written = json.loads((workdir / f"evaluation-validation-{crops}crop.json").read_text())
        assert written["count"] == 9 and written["crops"] == crops
        assert f"{written['top1_error']:.2%}" in out
    assert command(capsys, f"--model={workdir}/other.keras", data)[0] == 0
    assert (workdir / "results.json").read_text() == "training's"
    assert sorted(os.listdir(workdir)) == [
        "evaluation-validation-10crop.json",
        "evaluation-validation-1crop.json",
        "model.keras",
        "other-evaluation-validation-1crop.json",
        "other.keras",
        "results.json",
    ]
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert command(capsys, f"--model={workdir},{workdir}/other.keras", data)[0] == 0
    assert os.listdir(here) == ["evaluation-validation-1crop.json"]
    assert len(json.loads((here / os.listdir(here)[0]).read_text())["models"]) == 2


def test_a_data_set_whose_records_have_no_labels_is_refused_by_name(make_dataset, tmp_path, capsys):
    import tensorflow_datasets as tfds

    path, _, _ = make_dataset(2, SIZE)
    image = tfds.features.Tensor(shape=(SIZE, SIZE, 3), dtype=np.uint8, encoding="bytes")
    features = tfds.features.FeaturesDict({"image": image})
    tfds.folder_dataset.write_metadata(data_dir=path, features=features)
    colour_network().save(tmp_path / "good.keras")
    code, _, err = command(capsys, f"--model={tmp_path}/good.keras", f"--data_dir={path}")
    assert code == 1 and "of another kind" in err[-1] and "ClassLabel called label" in err[-1]


def test_one_image_is_a_split(make_dataset):
    path, images, _ = make_dataset(1, SIZE, shards=1)
    found, truths = evaluation.split_probabilities(
        colour_network(), records.open_dataset(path), evaluation.EvaluationSettings()
    )
    np.testing.assert_allclose(found, by_hand(colour_network(), images[:, 4:60, 4:60]), atol=1e-6)
    score = evaluation.score(found, truths)
    # Wilson's interval of one image: nearly everything is possible.
    assert score.count == 1 and score.top1_error in (0, 1)
    assert score.top1_interval[1] - score.top1_interval[0] > 0.7


@pytest.mark.parametrize("size", [1, 2500])
def test_records_of_one_pixel_and_huge_ones_are_brought_to_the_crop(make_dataset, size):
    """Stored at a size far from the network's: enlarged, or cut out of the middle."""
    path, _, _ = make_dataset(1, SIZE, shards=1)
    rng = np.random.default_rng(size)
    image = rng.integers(0, 256, (size, size, 3), np.uint8)
    shape = records.RecordFormat(size, 3, "raw")
    (shard,) = records.open_dataset(path).shards["validation"]
    with tf.io.TFRecordWriter(shard) as writer:
        writer.write(records.encode_example(image.tobytes(), 0, "p", "n00000000"))
    dataset = dataclasses.replace(records.open_dataset(path), format=shape)
    found, _ = evaluation.split_probabilities(
        colour_network(), dataset, evaluation.EvaluationSettings()
    )
    if size < CROP:
        view = np.broadcast_to(image, (CROP, CROP, 3))
    else:
        start = (size - CROP) // 2
        view = image[start : start + CROP, start : start + CROP]
    np.testing.assert_allclose(found, by_hand(colour_network(), view[None]), atol=1e-5)


def test_bad_input_ends_with_one_sentence(make_dataset, tmp_path, capsys):
    path, _, _ = make_dataset(4, SIZE)
    none, _, _ = make_dataset(0, SIZE)
    unlabelled, _, _ = make_dataset(4, SIZE, labels=[-1] * 4)
    good = tmp_path / "good.keras"
    colour_network().save(good)
    few = tmp_path / "few.keras"
    colour_network(classes=3).save(few)
    grey = tmp_path / "grey.keras"
    colour_network(channels=1).save(grey)
    text = tmp_path / "text.keras"
    text.write_text("no model")
    empty = tmp_path / "empty"
    empty.mkdir()
    data = f"--data_dir={path}"
    cases = [
        ([data], 2, "--model is missing"),
        ([f"--model={good}"], 2, "--data_dir is missing"),
        ([f"--model={good}", data, "--crops=3"], 2, "crops"),
        ([f"--model={good}", data, "more"], 2, "Unexpected argument 'more'"),
        ([f"--model={tmp_path}/none.keras", data], 1, "no model"),
        ([f"--model={empty}", data], 1, "holds no model.keras"),
        ([f"--model={text}", data], 1, "text.keras"),
        ([f"--model={few}", data], 1, "has 3 outputs without names, but"),
        ([f"--model={grey}", data], 1, "1 channel"),
        ([f"--model={good}", f"--data_dir={empty}"], 1, "no prepared data set"),
        ([f"--model={good}", data, "--split=test"], 1, "no split 'test'"),
        ([f"--model={good}", f"--data_dir={none}"], 1, "has no split 'validation'"),
        ([f"--model={good}", f"--data_dir={unlabelled}"], 1, "4 of 4 images have no label"),
        ([f"--model={good}", data, "--batch_size=0"], 1, "batch size 0"),
        (
            [f"--model={good}", data, "--strategy=mirrored", "--devices=2", "--batch_size=3"],
            1,
            "3 cannot be split over 2",
        ),
    ]
    for flags, wanted_code, sentence in cases:
        code, _, err = command(capsys, *flags)
        assert (code, sentence in err[-1]) == (wanted_code, True), (flags, code, err)
        assert err[-1].startswith("error: ") and "Traceback" not in "".join(err), flags
    assert not list(tmp_path.glob("*evaluation-*"))


def test_a_loss_of_zero_has_no_sign():
    certain = evaluation.score(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1]))
    assert certain.loss == 0 and math.copysign(1, certain.loss) == 1
    assert f"{certain.loss:.4f}" == "0.0000"


@pytest.fixture
def unprivileged_directory():
    """A directory that cannot be written (by root neither, as another user) and one that can."""
    root = pathlib.Path(tempfile.mkdtemp())
    closed, here = root / "closed", root / "here"
    closed.mkdir()
    here.mkdir()
    root.chmod(0o755)
    here.chmod(0o777)
    yield closed, here
    closed.chmod(0o755)
    shutil.rmtree(root)


def test_a_model_in_a_read_only_place_is_evaluated_into_the_current_directory(
    make_dataset, unprivileged_directory, capsys, monkeypatch
):
    closed, here = unprivileged_directory
    path, _, _ = make_dataset(9, SIZE)
    data = here / "data"
    shutil.copytree(path, data)
    colour_network().save(closed / "model.keras")
    closed.chmod(0o555)
    monkeypatch.chdir(here)
    given = [f"--model={closed}", f"--data_dir={data}"]
    root = os.geteuid() == 0
    if root:
        # Once as root, so that all is imported: another user may not read Python's own files.
        assert command(capsys, *given, "--output=first.json")[0] == 0
        os.seteuid(65534)
    try:
        code, out, said = command(capsys, *given)
        refused = command(capsys, *given, f"--output={closed}/mine.json")
    finally:
        if root:
            os.seteuid(0)
    assert code == 0 and "top-1 error" in out, said
    assert said[0].startswith(f"note: {closed} cannot be written, so the results go to evaluation-")
    written = json.loads((here / "evaluation-validation-1crop.json").read_text())
    assert f"{written['top1_error']:.2%}" in out
    # A place that was asked for by name is refused before the work.
    assert refused[0] == 1 and not refused[1]
    assert refused[2] == [
        f"error: The results cannot be written to {closed}/mine.json: name a file in a directory "
        "that can be written with --output."
    ]


def test_results_are_printed_before_they_are_written(make_dataset, tmp_path, capsys, monkeypatch):
    path, _, _ = make_dataset(9, SIZE)
    colour_network().save(tmp_path / "model.keras")
    output = tmp_path / "results.json"
    evaluate = evaluation.evaluate

    def evaluated_while_the_place_is_taken(*given):
        results = evaluate(*given)
        output.mkdir()  # a directory, which no file replaces
        return results

    monkeypatch.setattr(evaluation, "evaluate", evaluated_while_the_place_is_taken)
    given = [f"--model={tmp_path}", f"--data_dir={path}", f"--output={output}"]
    code, out, said = command(capsys, *given)
    assert code == 1 and "top-1 error" in out and "directory" in said[-1], (out, said)
    code, out, said = command(capsys, *given)  # now it is known before
    assert (
        code == 1
        and not out
        and said == [f"error: {output} is a directory: name a file with --output."]
    )
