"""Data is never code: nothing of ours can run it, paths in it stay in its folder, and secrets are not shown."""

import ast
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jobs.launch import guarded, say
from pipelines.config import EmbedOptions, ImageOptions, load_config, parse_config, redacted
from pipelines.errors import ConfigError, CorruptDatasetError, SourceError, TrackingError
from pipelines.evaluation.page import fill
from pipelines.images.listing import list_images
from pipelines.storage import open_dataset
from schemas.classifier import ClassifierState
from schemas.manifest import Manifest, Shard, TableEntry

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path for name in ("schemas", "pipelines", "jobs", "airflow_dags") for path in (ROOT / name).rglob("*.py")
)
RUN_DATA = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
RUN_TEXT = {"eval", "exec", "compile", "__import__", "system", "popen", "unsafe_load", "full_load"}
UNPACK = {"extract", "extractall", "unpack_archive", "enable_unsafe_deserialization", "read_pickle", "mktemp"}
MUST_SAY = {
    "keras.saving.load_model": ("safe_mode", "True"),
    "keras.models.load_model": ("safe_mode", "True"),
    "jinja2.Environment": ("autoescape", "True"),
    "np.load": ("allow_pickle", "False"),
}
FIXED_NAMES = {"jobs/launch.py", "jobs/cli.py", "jobs/run.py"}
"""Where a module is imported by a name that is computed: that of a job, out of a fixed list."""


def sins(path: Path) -> Iterator[str]:
    """What a file does that could run what it reads."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            yield from (f"imports {name}" for name in names if name.split(".")[0] in RUN_DATA)
        if isinstance(node, ast.Call):
            yield from sins_of_call(node, path)


def sins_of_call(node: ast.Call, path: Path) -> Iterator[str]:
    whole, said = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
    name = whole.rpartition(".")[2]
    if (name in RUN_TEXT and whole != "re.compile") or name in UNPACK:
        yield f"calls {whole}"
    if whole == "yaml.load" and said.get("Loader") != "_Loader":
        yield "loads YAML that is not safe"
    for function, (option, value) in MUST_SAY.items():
        if whole == function and said.get(option) != value:
            yield f"calls {whole} without {option}={value}"
    if said.get("shell") == "True":
        yield "calls a shell"
    computed = name == "import_module" and not isinstance(node.args[0], ast.Constant)
    if computed and path.relative_to(ROOT).as_posix() not in FIXED_NAMES:
        yield f"imports a module by the name {ast.unparse(node.args[0])}"


def test_no_file_of_ours_can_run_what_it_reads() -> None:
    assert {str(path.relative_to(ROOT)): found for path in SOURCES if (found := list(sins(path)))} == {}


def test_a_file_that_could_is_found(tmp_path) -> None:
    lines = [
        "import pickle", "from joblib import load", "eval(x)", "yaml.load(x, Loader=yaml.Loader)", "os.system(x)",
        "archive.extractall()", "keras.saving.load_model(x)", "np.load(x, allow_pickle=True)",
        "subprocess.run(x, shell=True)", "jinja2.Environment(loader=x)",
    ]  # fmt: skip
    (tmp_path / "bad.py").write_text("\n".join(lines))
    assert len(list(sins(tmp_path / "bad.py"))) == len(lines)


@pytest.mark.parametrize("where", ["file", "--set"])
def test_yaml_that_asks_for_an_object_is_refused_and_not_run(where, tmp_path) -> None:
    trap = f"!!python/object/apply:os.mkdir ['{tmp_path / 'made'}']"
    (tmp_path / "x.yaml").write_text(f"name: {trap if where == 'file' else 'x'}\nseed: 1\n")
    with pytest.raises(ConfigError, match="must be YAML"):
        load_config([tmp_path / "x.yaml"], [f"name={trap}"] if where == "--set" else [])
    assert not (tmp_path / "made").exists()


@pytest.fixture(scope="module")
def trap(tmp_path_factory) -> tuple[bytes, Path]:
    """A Keras file that makes a folder where it is loaded without care, and that folder."""
    keras = pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("trap")
    made = folder / "made"
    spring = eval(f"lambda x: (__import__('os').mkdir({str(made)!r}), x)[1]")  # of a source that Keras can find
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Lambda(spring, output_shape=(2, 2, 1))])
    model.save(folder / "trap.keras")
    made.rmdir() if made.exists() else None  # where Keras tried it on the way
    return (folder / "trap.keras").read_bytes(), made


def test_a_keras_file_that_brings_code_is_refused_wherever_one_is_loaded(trap, tmp_path) -> None:
    from pipelines.images.embed import load_encoder
    from pipelines.models.saved_classifier import SavedClassifier
    from pipelines.tracking.served_classifier import ServedClassifier

    content, made = trap
    (tmp_path / "classifier.keras").write_bytes(content)
    state = ClassifierState(family="linear", classes=("a", "b"), height=2, width=2, channels=1)
    (tmp_path / "classifier.json").write_text(state.model_dump_json())
    with pytest.raises(ConfigError, match=r"must be a \.keras file"):
        load_encoder(EmbedOptions(model=str(tmp_path / "classifier.keras")))
    with pytest.raises(CorruptDatasetError, match="cannot be loaded"):
        SavedClassifier.load(str(tmp_path))

    with pytest.raises(ValueError, match=r"unsafe|Lambda"):
        ServedClassifier().load_context(SimpleNamespace(artifacts={"classifier": str(tmp_path)}))
    assert not made.exists()


class Spring:
    """Pickles to a call."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        import os

        return os.mkdir, (self.folder,)


def test_weights_that_hold_a_pickle_are_refused_and_not_run(tmp_path) -> None:
    from pipelines.models.nearest import load_nearest
    from pipelines.retrieval.scorer import weights_from_bytes

    out = io.BytesIO()
    np.savez(out, vectors=np.array([Spring(tmp_path / "made")], object), labels=[0], classes=1, k=1, distance="l2")
    (tmp_path / "neighbours.npz").write_bytes(out.getvalue())
    with pytest.raises(CorruptDatasetError, match="allow_pickle=False"):
        weights_from_bytes(None, out.getvalue(), "here")
    with pytest.raises(SourceError, match="allow_pickle=False"):
        load_nearest(tmp_path / "neighbours.npz")
    assert not (tmp_path / "made").exists()


OUTSIDE = ["../secret.png", "a/../../secret.png", "/etc/hostname", "file:///etc/hostname", "s3://else/x.png"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_table_of_images_cannot_name_what_lies_outside_the_data(path, tmp_path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (data / "list.csv").write_text(f"file\n{path}\n")
    options = image_options({"path": "list.csv", "format": "table", "image": "file"})
    with pytest.raises(SourceError, match="must stay within the data folder"):
        list_images(str(data), options, str(tmp_path), print, labelled=False)


@pytest.mark.parametrize("path", ["../secret", "/etc"])
def test_a_source_of_images_cannot_lie_outside_the_data(path, tmp_path) -> None:
    with pytest.raises(SourceError, match="must stay within the data folder"):
        list_images(str(tmp_path), image_options({"path": path}), str(tmp_path), print)


@pytest.mark.parametrize("name", ["../x.png", "a/../../x.png", "/etc/x.png", ".."])
def test_a_member_of_an_archive_cannot_lie_outside_it(name, tmp_path) -> None:
    pack(tmp_path / "x.tar", tarfile.TarInfo(name))
    with pytest.raises(SourceError, match="must stay within the archive"):
        list_images(str(tmp_path), image_options({"path": "x.tar", "format": "files"}), str(tmp_path), print)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_member_of_an_archive_that_is_no_file_is_set_aside_unread(kind, tmp_path) -> None:
    member = tarfile.TarInfo("x.png")
    member.type, member.linkname = kind, "/etc/hostname"
    pack(tmp_path / "x.tar", member)
    options = image_options({"path": "x.tar", "format": "files"})
    found = list_images(str(tmp_path), options, str(tmp_path), print, labelled=False)
    assert found["problem"].to_pylist() == ["image: a link, not a file"]


@pytest.mark.parametrize("path", ["../x", "/etc/hostname", "a/../../x", "s3://else/x"])
def test_a_manifest_cannot_name_files_outside_its_folder(path, tmp_path) -> None:
    honest = Shard(path="x", rows=1, bytes=1, sha256="0")
    entry = TableEntry(format="file", shards=(Shard.model_construct(**{**dict(honest), "path": path}),))
    forged = Manifest.model_construct(dataset="d", tables={"t": entry}, seed=1)
    (tmp_path / "manifest.json").write_text(forged.to_json())
    with pytest.raises(CorruptDatasetError, match="must lie in its dataset's folder"):
        open_dataset(str(tmp_path))


def test_what_data_says_is_text_on_a_page() -> None:
    page = fill("curves.html.j2", name="<script>alert(1)</script>", curves=[], best_epoch=1)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    "address",
    [
        "https://me:hush@host/x",
        "https://hush@host/x",
        "postgresql://me:p@hush@host/x",
        "https://host/x?token=hush&part=1",
        "https://host/x?X-Amz-Signature=hush",
        "https://account.blob.core.windows.net/x?sv=1&sig=hush",
        "-Djavax.net.ssl.keyStorePassword=hush -Dother=1",
        "AWS_SECRET_ACCESS_KEY=hush",
    ],
)
def test_credentials_are_shown_nowhere_in_an_address_or_an_option(address) -> None:
    assert "hush" not in redacted(address)
    assert "hush" not in json.dumps(redacted({"a": [{"b": address}]}))


@pytest.mark.parametrize(
    "key",
    [
        "spark.hadoop.fs.s3a.secret.key",
        "password",
        "API_TOKEN",
        "fs.azure.account.key.x",
        "spark.hadoop.fs.gs.auth.service.account.private.key",
        "fs.s3a.encryption.key",
        "api_key",
        "apiKey",
        "private_key",
    ],
)
def test_what_a_key_names_a_secret_is_shown_nowhere(key) -> None:
    assert redacted({key: "hush", "other": 1}) == {key: "…", "other": 1}
    assert redacted(f"-D{key}=hush -Dother=1") == f"-D{key}=… -Dother=1"


def test_what_is_no_secret_is_left_alone() -> None:
    plain = [
        "s3://bucket/a@b",
        "models:/demo@champion",
        "sqlite:////out/mlflow.db",
        "https://host:5000/x?part=1",
        "a=b",
    ]
    assert [redacted(text) for text in plain] == plain
    options = {"event_key": "user_id", "key": "a", "spark.sql.keyring": "b", "kind": "monkey"}
    assert redacted(options) == options and redacted("event_key=a") == "event_key=a"


def test_neither_a_message_nor_a_traceback_of_ours_shows_credentials(capsys) -> None:
    def fails() -> int:
        raise RuntimeError("cannot reach https://me:hush@host/x")

    assert guarded(fails) == 1
    say("https://me:hush@host/x")
    said = capsys.readouterr().err
    assert "https://…@host/x" in said
    assert "hush" not in said


def test_a_store_whose_driver_is_missing_is_one_message_without_credentials(tmp_path) -> None:
    from pipelines.tracking.store import connect

    labels = {"rule": "sampled", "positive_actions": ["click"]}
    store = {"uri": "mssql+pymssql://me:hush@127.0.0.1:1/runs"}
    with pytest.raises(TrackingError, match=r"driver is installed, pymssql is not; install it$"):
        connect(parse_config({"name": "x", "seed": 1, "labels": labels, "tracking": store}), str(tmp_path))


def image_options(source: dict) -> ImageOptions:
    return ImageOptions.model_validate({"sources": [source], "height": 2, "width": 2})


def pack(path: Path, member: tarfile.TarInfo) -> None:
    with tarfile.open(path, "w") as archive:
        member.size = 0
        archive.addfile(member, io.BytesIO(b""))
