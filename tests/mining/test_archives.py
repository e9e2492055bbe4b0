from __future__ import annotations

import json
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
import torch
from torch import nn
from torch.export import Dim

from mining.checkpoints import load_model
from mining.exceptions import BadCheckpoint
from mining.types import ModelSpec, Preprocessing
from tests.mining.models import small_cnn
from tests.mining.pictures import GREY, SPEC

EXPORTED = ModelSpec("torch_export", "", SPEC.classes, GREY)


BATCH = torch.randint(
    0, 256, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)


NORMALISED = (BATCH.float() / 255 - 0.5) / 0.25


MODEL = "models/model.json"


WEIGHTS = "data/weights/model_weights_config.json"


CONSTANTS = "data/constants/model_constants_config.json"


SAMPLES = "data/sample_inputs/model.pt"


def export(model, *, batch=4, dim=None) -> bytes:
    shapes = None if dim is None else ({0: dim},)
    buffer = BytesIO()
    with warnings.catch_warnings():
        # torch's own code uses what Python and torch have deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.export.export(
            model, (torch.zeros(batch, 1, 8, 8),), dynamic_shapes=shapes
        )
        torch.export.save(program, buffer)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A small network with a free batch size."""
    return export(small_cnn(), dim=Dim("batch"))


def tamper(data: bytes, changes: dict, **options) -> bytes:
    """Replace or add entries; a function edits the JSON that is there."""
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(buffer, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        entries = {name: old.read(name) for name in old.namelist()}
        for name, change in changes.items():
            full = f"{root}/{name}"
            if callable(change):
                found = json.loads(entries[full])
                change(found)
                entries[full] = json.dumps(found).encode()
            else:
                entries[full] = change
        for name, content in entries.items():
            new.writestr(name, content, **options)
    return buffer.getvalue()


def load(tmp_path, data, spec=EXPORTED):
    (tmp_path / "m.pt2").write_bytes(data)
    return load_model(str(tmp_path / "m.pt2"), spec, device="cpu")


def refusal(tmp_path, data) -> str:
    with pytest.raises(BadCheckpoint) as caught:
        load(tmp_path, data)
    assert str(tmp_path / "m.pt2") in str(caught.value)
    return str(caught.value)


@torch.inference_mode()
def agrees(predictor, model) -> bool:
    return torch.allclose(predictor(BATCH), model(NORMALISED.clone()), atol=1e-4)


def test_threads_share_a_graph(tmp_path, archive):
    predictor = load(tmp_path, archive)
    batches = torch.randint(0, 256, (40, 5, 1, 8, 8), dtype=torch.uint8)
    wanted = [predictor(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(predictor, batches))
    assert all(map(torch.equal, found, wanted))


def test_a_free_batch_size_gives_the_networks_logits(tmp_path, archive):
    predictor = load(tmp_path, archive)
    assert agrees(predictor, small_cnn())
    assert torch.allclose(predictor(BATCH[:1]), predictor(BATCH)[:1], atol=1e-4)


@pytest.mark.parametrize(
    ("batch", "dim"),
    [(1, None), (4, None), (8, None), (3, Dim("batch", min=2, max=4))],
)
def test_other_batch_sizes_are_split_and_padded(tmp_path, batch, dim):
    predictor = load(tmp_path, export(small_cnn(), batch=batch, dim=dim))
    assert agrees(predictor, small_cnn())
    assert predictor(BATCH[:3]).shape == (3, 3)


class Varied(nn.Module):
    """Constants, shared and unsaved tensors, lists, size arithmetic, writing in place."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.first = nn.Linear(16, 16)
            self.head = nn.Linear(64, 3)
            self.second = nn.Linear(16, 16)
        self.second.weight = self.first.weight
        self.register_buffer("mask", torch.arange(16) % 2 == 0, persistent=False)
        self.register_buffer("scale", torch.full((1,), 0.5))

    def forward(self, x):
        x = x.reshape(x.shape[0] * 4, 16)
        x = self.second(torch.relu_(self.first(x))).masked_fill(self.mask, -1.5)
        left, right = x.split([6, 10], dim=1)
        x = torch.cat([right, left], dim=1)
        x += torch.tensor([float("inf"), 0.25])[1] * self.scale
        x = x.clamp(min=float("-inf")).view(x.shape[0] // 4, -1)
        return self.head(nn.functional.gelu(x, approximate="tanh"))


@pytest.mark.parametrize("dim", [None, Dim("batch")])
def test_constants_lists_and_size_arithmetic_are_understood(tmp_path, dim):
    predictor = load(tmp_path, export(Varied(), dim=dim))
    assert agrees(predictor, Varied())
    assert agrees(predictor, Varied())  # nothing of it was changed by the first call


def test_a_model_in_training_mode_is_refused(tmp_path):
    text = refusal(tmp_path, export(small_cnn().train()))
    assert "export it after eval()" in text


def edited(path, value):
    def edit(model):
        *parents, last = path
        for key in parents:
            model = model[key]
        model[last] = value

    return edit


GRAPH = ("graph_module", "graph")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (edited(("schema_version", "major"), 9), "schema is version 9"),
        (edited((*GRAPH, "tensor_values", "x", "dtype"), 6), "torch.float16 with 4"),
        (edited((*GRAPH, "outputs"), []), "0 outputs"),
        (edited((*GRAPH, "outputs", 0), {"as_tensor": {"name": "no"}}), "KeyError('no')"),
        (edited((*GRAPH, "inputs"), []), "zip"),
        (edited((*GRAPH, "nodes"), [[]]), "list indices"),
        (edited((*GRAPH, "nodes", 0, "inputs", 0, "arg"), {"as_graph": {}}), "as_graph"),
        (edited((*GRAPH, "nodes", 0, "inputs", 3, "arg"), {"as_ints": ["1"]}), "as_ints"),
        (edited(("range_constraints",), {}), "KeyError('s"),
        (edited(("graph_module",), 3), "TypeError"),
    ],
)  # fmt: skip
def test_a_graph_that_is_no_classifier_is_refused(tmp_path, archive, edit, reason):
    assert reason in refusal(tmp_path, tamper(archive, {MODEL: edit}))


@pytest.mark.parametrize(
    "edit",
    [
        {"sizes": [{"as_int": 10**9}], "strides": [{"as_int": 1}]},
        {"storage_offset": {"as_int": -8}},
        {"storage_offset": {"as_int": 10**6}},
        {"dtype": 99},
    ],
)
def test_tensors_stay_inside_their_bytes(tmp_path, archive, edit):
    def change(config):
        config["config"]["head.bias"]["tensor_meta"].update(edit)

    assert "is damaged" in refusal(tmp_path, tamper(archive, {WEIGHTS: change}))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_archive_is_refused(tmp_path, archive, share):
    text = refusal(tmp_path, archive[: int(len(archive) * share)])
    assert "is damaged or not a torch.export archive" in text
    assert "Save the model again" in text


def test_a_changed_byte_is_noticed(tmp_path, archive):
    at = archive.index(b'"as_tensor"')
    data = archive[:at] + b"'" + archive[at + 1 :]
    assert "Bad CRC-32" in refusal(tmp_path, data)


def test_a_zip_bomb_is_not_unpacked(tmp_path, archive):
    data = tamper(archive, {}, compress_type=zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(tmp_path, data)


def test_an_entry_twice_is_refused(tmp_path, archive):
    buffer = BytesIO(archive)
    with zipfile.ZipFile(buffer, "a") as file:
        name = next(n for n in file.namelist() if n.endswith(MODEL))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr(name, "{}")
    assert "an entry twice" in refusal(tmp_path, buffer.getvalue())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"byteorder": b"big"}, "big"), ({"archive_format": b"pt3"}, "pt3")],
)
def test_another_format_is_refused(tmp_path, archive, changes, reason):
    assert reason in refusal(tmp_path, tamper(archive, changes))


def test_an_archive_of_an_old_torch_says_so(tmp_path):
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("serialized_exported_program.json", "{}")
    assert "torch 2.7 or older" in refusal(tmp_path, buffer.getvalue())


def test_images_of_another_size_are_refused(tmp_path, archive):
    predictor = load(tmp_path, archive)
    with pytest.raises(BadCheckpoint, match=r"cannot take images of shape \(1, 9, 8\)"):
        predictor(torch.zeros(2, 1, 9, 8, dtype=torch.uint8))


def test_another_number_of_classes_is_refused(tmp_path, archive):
    spec = ModelSpec("torch_export", "", ("a", "b"), GREY)
    with pytest.raises(BadCheckpoint, match=r"\(5, 3\) for 5 images; its spec lists 2"):
        load(tmp_path, archive, spec)(BATCH)


def test_an_output_without_a_row_per_image_is_refused(tmp_path):
    class Total(nn.Module):
        def forward(self, x):
            return x.sum((0, 2, 3)).expand(3)

    with pytest.raises(BadCheckpoint, match=r"shape \(3,\) for 8 images"):
        load(tmp_path, export(Total(), batch=8))(BATCH)


def test_arguments_that_an_operator_refuses_are_an_error_of_the_file(tmp_path, archive):
    def edit(model):
        node = model["graph_module"]["graph"]["nodes"][0]
        node["inputs"][3]["arg"] = {"as_string": "wide"}

    predictor = load(tmp_path, tamper(archive, {MODEL: edit}))
    with pytest.raises(
        BadCheckpoint, match=r"m\.pt2 cannot .*ops\.aten\.conv2d\.default"
    ):
        predictor(BATCH)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_agrees_with_the_cpu(tmp_path, archive):
    (tmp_path / "m.pt2").write_bytes(archive)
    gpu = load_model(str(tmp_path / "m.pt2"), EXPORTED, device="cuda")
    cpu = load(tmp_path, archive)
    assert torch.allclose(gpu(BATCH).softmax(1), cpu(BATCH).softmax(1), atol=1e-2)


def test_images_are_prepared_as_the_spec_says(tmp_path, archive):
    other = Preprocessing(resize=8, crop=(8, 8), mean=(0.0,), std=(1.0,), mode="L")
    spec = ModelSpec("torch_export", "", SPEC.classes, other)
    with torch.inference_mode():
        expected = small_cnn()(BATCH.float() / 255)
    assert torch.allclose(load(tmp_path, archive, spec)(BATCH), expected, atol=1e-4)
