"""Runs experiments one after the other and keeps finished work, so that a rerun resumes."""

import importlib
import json
import os
from collections.abc import Mapping, Sequence

from alexnet_tf import files, machine
from alexnet_tf.data import external, records
from alexnet_tf.experiments import data, report
from alexnet_tf.experiments.registry import EXPERIMENTS
from alexnet_tf.experiments.results import (
    PLAN_FILE,
    SCALES,
    Context,
    Result,
    describe_data,
    is_cifar10,
)
from alexnet_tf.models import crop_size

_GET_CIFAR10 = "--data_dir=tfds:cifar10 fetches it"
SMOKE = "a smoke run measures nothing"
_SETTING_FILE = "setting.json"


def reproduce(
    names: Sequence[str],
    data_dir: str,
    workdir: str,
    scale: str = "full",
    seeds: Sequence[int] = (0,),
    only_suited: bool = False,
) -> dict[str, Result]:
    """Runs experiments, and writes results.json, report.md and report.html.

    A workdir keeps earlier work: finished networks, scores and results are not computed again, and
    the report holds all of them.

    Args:
      names: names of `registry.EXPERIMENTS`.
      data_dir: a prepared data set.
      workdir: output directory.
      scale: a name of `results.SCALES`.
      seeds: one run per seed.
      only_suited: whether to leave out, and report, experiments whose claim is about other data.

    Returns:
      Experiment -> result, for the experiments of this call.

    Raises:
      ValueError: unknown names, or a workdir that was started with other settings.
      OSError: the data does not exist.
    """
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        raise ValueError(
            f"There is no experiment {unknown[0]!r}: use one of {', '.join(EXPERIMENTS)}."
        )
    context, dataset = _context(data_dir, workdir, scale, seeds)
    unsuited = {name: _why_not(name, dataset) for name in names} if only_suited else {}
    skipped = {name: why for name, why in unsuited.items() if why}
    for name, why in skipped.items():
        print(f"{name}: skipped: {why}", flush=True)
    found = {name: _one(name, context) for name in names if name not in skipped}
    _report(context, skipped)
    return found


def plan(
    data_dir: str,
    workdir: str,
    scale: str = "full",
    seeds: Sequence[int] = (0,),
    seconds: float = 60.0,
) -> str:
    """Measures what table 1 will cost on this machine. Trains nothing; writes WORKDIR/plan.json.

    Args:
      data_dir, workdir, scale, seeds: see `reproduce`.
      seconds: how long to measure.

    Returns:
      The plan as human-readable text.

    Raises:
      ValueError, OSError: as `reproduce`.
    """
    from alexnet_tf.experiments import plan as planning

    context = _context(data_dir, workdir, scale, seeds)[0]
    numbers = {**planning.make(context, seconds), "machine": machine.describe()}
    files.write_json(context.path(PLAN_FILE), numbers)
    return planning.describe(numbers)


def _context(
    data_dir: str, workdir: str, scale: str, seeds: Sequence[int]
) -> tuple[Context, records.PreparedDataset]:
    """The context of a workdir, and the full data set."""
    if scale not in SCALES:
        raise ValueError(f"There is no scale {scale!r}: use one of {', '.join(SCALES)}.")
    if not seeds:
        raise ValueError("There is no seed: name at least one.")
    dataset = records.open_dataset(data_dir)
    for split in ("train", "validation"):
        dataset.require_split(split)
    _require_same_setting(workdir, data_dir, scale)
    told = describe_data(dataset)
    limit = SCALES[scale].images
    if limit is not None:
        data_dir = data.derive(dataset, os.path.join(workdir, "data", "few"), limit)
    context = Context(data_dir, told, workdir, SCALES[scale], tuple(seeds))
    return context, dataset


def _why_not(name: str, dataset: records.PreparedDataset) -> str | None:
    """Why an experiment does not suit the data, in words; None if it does."""
    if EXPERIMENTS[name].cifar10 and not is_cifar10(dataset):
        return f"its claim is of CIFAR-10, and {dataset.path} is not; {_GET_CIFAR10}"
    size, needed = dataset.format.image_size, crop_size("alexnet_145")
    if not EXPERIMENTS[name].any_size and size < needed:
        return f"its networks take crops of {needed} pixels, and {dataset.path} stores {size}"
    return None


def _one(name: str, context: Context) -> Result:
    """The experiment's result, from this run or an earlier one with the same seeds."""
    path = context.path("findings", f"{name}.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            known = json.load(file)
        if known["seeds"] == list(context.seeds):
            print(f"{name}: done before", flush=True)
            return Result.from_json(known["finding"])
    print(f"{name}: {EXPERIMENTS[name].summary}", flush=True)
    result = importlib.import_module(EXPERIMENTS[name].module).run(context)
    if not context.scale.measures:
        result = result.unmeasured(SMOKE)
    content = {
        "seeds": list(context.seeds),
        "command": _command(name, context),
        "finding": result.to_json(),
    }
    files.write_json(path, content)
    return result


def _report(context: Context, skipped: Mapping[str, str]) -> None:
    """Writes the results of all experiments of the workdir, in the registry's order."""
    contents = {}
    for name in EXPERIMENTS:
        path = context.path("findings", f"{name}.json")
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                contents[name] = json.load(file)
    computer = machine.describe()
    # Results of experiments that were run by name before stay in the report.
    skipped = {name: why for name, why in skipped.items() if name not in contents}
    results = {
        "data": context.data,
        "scale": context.scale.name,
        "machine": computer,
        "skipped": skipped,
        **contents,
    }
    files.write_json(context.path("results.json"), results)
    results = {name: Result.from_json(one["finding"]) for name, one in contents.items()}
    commands = {name: one["command"] for name, one in contents.items()}
    report.write_report(results, commands, context, computer, skipped)


def _command(name: str, context: Context) -> str:
    seeds = ",".join(map(str, context.seeds))
    return (
        f"python -m alexnet_tf.reproduce {name} --data_dir=DATA --scale={context.scale.name} "
        f"--seeds={seeds}"
    )


def _require_same_setting(workdir: str, data_dir: str, scale: str) -> None:
    path = os.path.join(workdir, _SETTING_FILE)
    if not data_dir.startswith(external.TFDS_PREFIX):
        data_dir = os.path.abspath(data_dir)
    wanted = {"data_dir": data_dir, "scale": scale}
    if not os.path.exists(path):
        files.write_json(path, wanted)
        return
    with open(path, encoding="utf-8") as file:
        known = json.load(file)
    if known != wanted:
        raise ValueError(
            f"{workdir} was begun with --data_dir={known['data_dir']} --scale={known['scale']}: "
            "use the same again to go on, or another --workdir."
        )
