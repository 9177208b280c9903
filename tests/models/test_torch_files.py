"""PyTorch's files beside PyTorch itself, in both of its containers; and files made to do harm."""

import collections
import io
import pickle
import re
import struct
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest

from alexnet_tf.models.weights import torch_files
from alexnet_tf.models.weights.stored import StoredTensor
from alexnet_tf.models.weights.torch_files import UnreadableTensor

torch = pytest.importorskip("torch")

CONTAINERS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(content, path, zipped=True):
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def tensors():
    """Name -> tensor of every kind that has an array."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(60, generator=generator)
    marked, tagged = torch.nn.Parameter(base[:2].clone()), base[2:4].clone()
    marked.note, tagged.note = "a", 1
    return {
        "plain": base.view(3, 4, 5),
        "part": base[7:19].view(3, 4),
        "transposed": base.view(6, 10).t(),
        "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "requires grad": torch.nn.Parameter(base[:6].clone()),
        "computed": torch.nn.Parameter(base[:6].clone()) * 2,
        "parameter with a note": marked,
        "tensor with a note": tagged,
        "negative": torch._neg_view(base[3:9]),
        "expanded": base[:1].expand(4, 3),
        "number": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        **{str(t): base[:5].to(t) for t in (torch.float64, torch.float16, torch.bfloat16)},
        **{str(t): (9 * base[:5]).to(t) for t in (torch.int64, torch.int32, torch.int16)},
        **{str(t): (9 * base[:5]).to(t) for t in (torch.int8, torch.bool)},
        "uint8": torch.arange(250, 256, dtype=torch.uint8),
    }


@CONTAINERS
def test_tensors_are_pytorchs(tmp_path, zipped):
    given = tensors()
    if zipped:  # the older container has no such type
        given["uint16"] = torch.tensor([0, 1, 65535], dtype=torch.uint16)
    found = torch_files.read(save(given, tmp_path / "a.pth", zipped))
    assert list(found) == list(given)
    for name, tensor in given.items():
        floating = tensor.is_floating_point()
        wanted = tensor.detach().resolve_neg()
        wanted = (wanted.float() if floating and tensor.itemsize < 4 else wanted).numpy()
        assert found[name].shape == wanted.shape
        value = found[name].read()
        np.testing.assert_array_equal(value, wanted, err_msg=name)
        assert (value.dtype.kind == "f") == floating, name


@CONTAINERS
def test_what_stands_beside_tensors(tmp_path, zipped):
    """Of torchvision's and PyTorch's own training scripts."""
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    checkpoint = {
        "epoch": 7,
        "arch": "alexnet",
        "best_acc1": torch.tensor(56.5),
        "best": np.float64(0.25),
        "counts": np.arange(3),
        "optimizer": optimizer.state_dict(),
        "scheduler": schedule.state_dict(),
        "size": network.weight.shape,
        "dtype": torch.bfloat16,
        "device": torch.device("cuda", 1),
        "state_dict": network.state_dict(),
    }
    path = save(checkpoint, tmp_path / "a.pth.tar", zipped)
    found = torch_files.read(path)
    assert (found["epoch"], found["arch"], found["best"]) == (7, "alexnet", 0.25)
    assert (found["size"], found["dtype"], found["device"]) == ((2, 3), "bfloat16", "cuda:1")
    assert found["best_acc1"].read() == 56.5 and list(np.asarray(found["counts"])) == [0, 1, 2]
    momentum = found["optimizer"]["state"][0]["momentum_buffer"].read()
    np.testing.assert_array_equal(momentum, optimizer.state_dict()["state"][0]["momentum_buffer"])
    state = torch_files.state_dict(path)
    np.testing.assert_array_equal(state["weight"].read(), network.weight.detach())


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
def test_a_state_dictionary_is_found_in_its_checkpoint(tmp_path, name):
    path = save({"epoch": 1, name: {"w": torch.ones(2)}}, tmp_path / "a.pth")
    assert list(torch_files.state_dict(path)) == ["w"]


def test_tensors_without_an_array_say_what_they_are(tmp_path):
    given = {
        "sparse": torch.ones(3).to_sparse(),
        "meta": torch.zeros(2, device="meta"),
        "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    }
    with pytest.warns(UserWarning, match="quantize_per_tensor"):
        given["quantised"] = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    found = torch_files.read(save(given, tmp_path / "a.pth"))
    assert found == {name: UnreadableTensor(name) for name in given}
    eight = torch_files.read(
        save({"a": torch.ones(2, dtype=torch.float8_e5m2)}, tmp_path / "b.pth")
    )
    assert eight["a"].dtype == "float8_e5m2"


@CONTAINERS
def test_numbers_of_the_other_byte_order(tmp_path, zipped):
    path = save({"a": torch.arange(5.0)}, tmp_path / "a.pth", zipped)
    content = path.read_bytes()
    numbers = np.arange(5, dtype="<f4").tobytes()
    assert content.count(numbers) == 1
    content = content.replace(numbers, np.arange(5, dtype=">f4").tobytes())
    if not zipped:
        content = re.sub(rb"(little_endianq.)\x88", b"\\1\x89", content, flags=re.DOTALL)
        content = content.replace(struct.pack("<q", 5), struct.pack(">q", 5))
        path.write_bytes(content)
    else:
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(tmp_path / "b.pth", "w") as other:
            for name in archive.namelist():
                member = archive.read(name)
                member = {"archive/byteorder": b"big", "a/byteorder": b"big"}.get(name, member)
                other.writestr(
                    name, np.arange(5, dtype=">f4").tobytes() if "/data/0" in name else member
                )
        path = tmp_path / "b.pth"
    np.testing.assert_array_equal(torch_files.read(path)["a"].read(), np.arange(5.0))


@CONTAINERS
def test_a_storage_that_tensors_share_is_read_for_each(tmp_path, zipped):
    base = torch.arange(12.0)
    path = save({"all": base, "end": base[8:]}, tmp_path / "a.pth", zipped)
    found = torch_files.read(path)
    np.testing.assert_array_equal(found["end"].read(), base[8:])
    np.testing.assert_array_equal(found["all"].read(), base)


@CONTAINERS
def test_a_huge_shape_in_a_small_file_takes_no_memory(tmp_path, zipped):
    path = save({"w": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "a.pth", zipped)
    tracemalloc.start()
    tensor = torch_files.read(path)["w"]
    assert (tensor.shape, tensor.span) == ((10**6, 10**6), 1)
    assert tracemalloc.get_traced_memory()[1] < 10e6
    tracemalloc.stop()


class Harm:
    def __reduce__(self):
        return (print, ("run!",))


@CONTAINERS
@pytest.mark.parametrize(
    "content",
    [{"state_dict": {"w": torch.ones(1)}, "x": Harm()}, torch.nn.Linear(2, 2)],
    ids=["code", "network"],
)
def test_other_objects_are_refused_and_not_run(tmp_path, capsys, content, zipped):
    path = save(content, tmp_path / "a.pth", zipped)
    with pytest.raises(ValueError, match=r"more than tensors.*(print|Linear)"):
        torch_files.read(path)
    assert "run!" not in capsys.readouterr().out


def test_a_program_of_torchscript_is_refused(tmp_path):
    module = torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2))
    torch.jit.save(module, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="TorchScript"):
        torch_files.read(tmp_path / "a.pt")


def _view(size=(2,), stride=(1,), offset=0, elements=4, key="0", kind="FloatStorage"):
    """The pickle of {"w": tensor}, by hand."""
    storage = collections.namedtuple("Storage", "key kind elements")(key, kind, elements)

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if value is storage:
                return ("storage", getattr(torch, kind), key, "cpu", elements)
            return None

    class Tensor:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (
                *(storage, offset, size, stride, False, collections.OrderedDict()),
            )

    stream = io.BytesIO()
    Pickler(stream, 2).dump({"w": Tensor()})
    return stream.getvalue()


def _archive(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(f"archive/{name}", content)
    return path


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"size": (5,)}, "ends behind its storage"),
        ({"offset": 3}, "ends behind its storage"),
        ({"stride": (4,)}, "ends behind its storage"),
        ({"size": (2**62, 2**62), "stride": (2**62, 2**62)}, "ends behind its storage"),
        ({"size": (-1,)}, "impossible shape"),
        ({"stride": (-1,)}, "impossible shape"),
        ({"offset": -1}, "impossible shape"),
        ({"size": (2**63,)}, "impossible shape"),
        ({"size": (1,) * 40, "stride": (1,) * 40}, "impossible shape"),
        ({"size": (2.0,)}, "impossible shape"),
        ({"size": (1, 1)}, "impossible shape"),
        ({"elements": 10**12}, "missing or of another length"),
        ({"elements": -4}, "impossible size"),
        ({"key": "1"}, "missing or of another length"),
        ({"key": "../../data.pkl"}, "missing or of another length"),
        ({"kind": "DoubleStorage"}, "missing or of another length"),
    ],
)
def test_sizes_are_believed_as_far_as_the_file_holds_them(tmp_path, given, words):
    members = {"data.pkl": _view(**given), "data/0": np.arange(4, dtype="<f4").tobytes()}
    path = _archive(tmp_path / "a.pth", members)
    with pytest.raises(ValueError, match=words):
        torch_files.read(path)


def test_the_archive_made_by_hand_is_read_when_it_is_right(tmp_path):
    members = {"data.pkl": _view(), "data/0": np.arange(4, dtype="<f4").tobytes()}
    found = torch_files.read(_archive(tmp_path / "a.pth", members))
    np.testing.assert_array_equal(found["w"].read(), [0, 1])


def test_a_compressed_archive_is_refused(tmp_path):
    """A gigabyte of zeros takes one megabyte there."""
    members = {"data.pkl": _view(), "data/0": bytes(16)}
    path = _archive(tmp_path / "a.pth", members, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="compressed"):
        torch_files.read(path)


def test_a_tar_archive_is_named(tmp_path):
    """PyTorch's first container; `.pth.tar` files of today are none."""
    path = tmp_path / "a.pth.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("sys_info"), io.BytesIO(b""))
    with pytest.raises(ValueError, match="tar archive, as PyTorch wrote them until 2017"):
        torch_files.read(path)


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path):
    path = save({"w": torch.arange(1000.0)}, tmp_path / "a.pth")
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(1000, dtype="<f4").tobytes()) + 400] ^= 1
    path.write_bytes(content)
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        torch_files.read(path)["w"].read()


@CONTAINERS
def test_whatever_is_flipped_or_cut_is_read_or_refused(tmp_path, zipped):
    given = {name: tensor for name, tensor in tensors().items() if name != "plain"}
    whole = save(given, tmp_path / "a.pth", zipped).read_bytes()
    rng = np.random.default_rng(int(zipped))
    path = tmp_path / "b.pth"
    refused = 0
    for number in range(150):
        content = bytearray(whole)
        for place in rng.integers(len(content), size=1 + number % 4):
            content[place] = rng.integers(256)
        path.write_bytes(content[: rng.integers(len(content))] if number % 3 == 0 else content)
        try:
            for tensor in torch_files.read(path).values():
                if isinstance(tensor, StoredTensor) and tensor.size < 10**6:
                    tensor.read()
        except (ValueError, zipfile.BadZipFile):
            refused += 1
    assert refused > 40
