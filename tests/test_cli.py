"""What all commands share: flags that cannot be meant, `~`, pipes, the list of commands."""

import dataclasses
import io
import os
import re
import subprocess
import sys

import pytest

import alexnet_tf
from alexnet_tf import __main__ as listing
from alexnet_tf import cli, progress, train, usage
from alexnet_tf.training import recipe_text, recipes


def _error(capsys):
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--lr=0.1", "There is no flag --lr: did you mean --learning_rate?"),
        ("--wd=1", "There is no flag --wd: did you mean --weight_decay?"),
        ("--batch-size=3", "There is no flag --batch-size: did you mean --batch_size?"),
        ("--epoch=3", "There is no flag --epoch: did you mean --epochs"),
        ("--zzz=3", "There is no flag --zzz: --help lists the flags."),
        ("--epochs=ten", "--epochs=ten: expected an integer."),
        ("--epochs=1.5", "--epochs=1.5: expected an integer."),
        ("--devices=0", "--devices=0: expected a positive integer."),
        ("--learning_rate=fast", "--learning_rate=fast: expected a number."),
        ("--mirror=maybe", "--mirror=maybe: expected true or false."),
        ("--jit_compile=yes", "--jit_compile=yes: expected one of auto, true, false."),
    ],
)
def test_a_mistyped_flag_is_answered_with_what_is_expected(flag, said, capsys):
    assert train.main([flag]) == 2
    assert _error(capsys).startswith(f"error: {said}")


def test_a_short_flag_is_answered_with_the_flags_that_begin_so(capsys):
    assert train.main(["-m=alexnet"]) == 2
    said = _error(capsys)
    assert "There is no flag -m:" in said and "--model" in said


def test_a_tilde_is_the_home_directory_in_every_path(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = str(tmp_path)
    seen = {}

    def define(flags):
        for name in ("output", "source", "number"):
            cli.absl_flags.DEFINE_string(name, None, "", flag_values=flags)
        cli.absl_flags.DEFINE_list("model", [], "", flag_values=flags)

    def main(flags, args):
        seen.update(output=flags.output, source=flags.source, model=flags.model, args=args)

    argv = ["--output=~/new", "--source", "~/data", "--model=a,~/b,c~d", "~/*.jpg", "x~y"]
    assert cli.run(define, main, argv) == 0
    assert seen == {
        "output": f"{home}/new",
        "source": f"{home}/data",
        "model": ["a", f"{home}/b", "c~d"],
        "args": [f"{home}/*.jpg", "x~y"],
    }


def test_no_directory_is_called_tilde(monkeypatch, tmp_path, capsys):
    """As it was found: `--output=~/records` made a directory `~`."""
    from data_prep import photos

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert photos.main(["--output=~/photographs", "--train=14", "--validation=14"]) == 0
    assert os.listdir(tmp_path) == ["home"]
    assert os.listdir(tmp_path / "home" / "photographs")


def test_help_into_a_closed_pipe_is_quiet():
    command = [sys.executable, "-m", "alexnet_tf.train", "--help"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "" and done.returncode == 141


def test_the_package_lists_its_commands(capsys):
    assert listing.main([]) == 0
    shown = capsys.readouterr().out
    for name in ("alexnet_tf.train ", "alexnet_tf.analyze ", "data_prep.convert "):
        assert f"\n  {name}" in shown
    assert listing.main(["--version"]) == 0
    assert capsys.readouterr().out == f"alexnet_tf {alexnet_tf.__version__}\n"
    assert listing.main(["trian"]) == 2
    assert "use python -m alexnet_tf.train" in _error(capsys)


def test_help_explains_every_field_of_a_recipe(capsys):
    fields = [field.name for field in dataclasses.fields(recipes.Recipe)]
    grouped = [name for names in recipe_text.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(fields)
    meanings = recipe_text.explanations()
    assert list(meanings) == fields
    assert train.main(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, meaning in meanings.items():
        assert f"--{name} {meaning[0].upper()}{meaning[1:]}" in shown


def test_a_recipe_is_shown_in_lines_that_mark_what_was_changed():
    paper = recipes.PAPER
    steps = ((1.0, 1e-3), (2.0, 1e-4))
    changed = dataclasses.replace(paper, epochs=3, schedule="steps", rate_steps=steps, mirror=False)
    shown = recipe_text.described("paper", changed, paper)
    lines = shown.splitlines()
    assert lines[0] == "Recipe paper, changed where there is a *"
    assert "*epochs=3 (not 90)  batch_size=128" in shown
    assert "*rate_steps=1:0.001,2:0.0001 (not set)" in shown
    assert "*mirror=false (not true)" in shown
    assert shown.count("*") == 5 and max(map(len, lines)) <= 100
    assert len({line.index("=") for line in lines[1:2]}) == 1
    same = recipe_text.described("paper", paper, paper)
    assert same.splitlines()[0] == "Recipe paper" and "*" not in same


def test_every_flag_of_a_recipe_takes_what_the_recipe_shows(capsys):
    for name, recipe in recipes.RECIPES.items():
        shown = recipe_text.described(name, recipe, recipe).split("\n", 1)[1]
        flags = [f"--{word}" for word in shown.split() if "=" in word]
        assert len(flags) > 15
        given = cli.absl_flags.FlagValues()
        train._define(given)
        given(["program", *flags, "--weights=run"])
        fields = {field.name: given[field.name].value for field in dataclasses.fields(recipe)}
        fields = {name: value for name, value in fields.items() if value is not None}
        found = recipes.override(recipe, fields)
        assert found == dataclasses.replace(recipe, weights="run")


def test_the_suggestions():
    names = ["model", "momentum", "mean", "learning_rate", "rate_steps"]
    assert usage.similar("lr", names) == ["learning_rate"]
    assert usage.similar("m", names) == ["mean", "model", "momentum"]
    assert usage.similar("modle", names) == ["model"]
    assert usage.similar("qqq", names) == []


class _File(io.StringIO):
    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    file = _File(terminal=False)
    with progress.tqdm(total=100, desc="look", unit="image", file=file) as bar:
        bar._time = lambda: now[0]
        bar.start_t = bar.last_print_t = now[0]
        for _ in range(100):
            now[0] += 1.0
            bar.update()
            bar.set_postfix_str("loss 1")
    text = file.getvalue()
    assert "\r" not in text
    assert re.findall(r"^look: .* (\d+/100) .*image/s", text, re.MULTILINE) == [
        "30/100",
        "60/100",
        "90/100",
        "100/100",
    ]
    short = _File(terminal=False)
    list(progress.tqdm(range(5), file=short))
    assert short.getvalue() == ""
    shown = _File(terminal=True)
    list(progress.tqdm(range(5), file=shown))
    assert "\r" in shown.getvalue() and "5/5" in shown.getvalue()
