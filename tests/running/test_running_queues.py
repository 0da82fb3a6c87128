from __future__ import annotations

import sys
from pathlib import Path

import pytest

from napari_matseg.errors import SettingsError
from napari_matseg.running import queues
from napari_matseg.running.queues import connected, make_cluster, started
from napari_matseg.settings.cluster import ClusterSettings, read_cluster

COMMON = {
    "queue": "gpu",
    "cores": 8,
    "processes": 2,
    "memory": "64GB",
    "walltime": "08:00",
    "python": "/env/bin/python",
}


def script(kind: str, **more: object) -> str:
    with make_cluster(ClusterSettings(kind=kind, arguments=COMMON | more)) as cluster:  # type: ignore[arg-type]
        text: str = cluster.job_script()
    return text


def test_what_slurm_would_get() -> None:
    text = script(
        "slurm", account="steel", job_extra_directives=["--gres=gpu:1"], job_script_prologue=["module load x"]
    )
    for line in ("-p gpu", "-A steel", "--cpus-per-task=8", "--mem=60G", "-t 08:00", "--gres=gpu:1"):
        assert f"#SBATCH {line}\n" in text
    assert text.index("module load x") < text.index("/env/bin/python -m distributed.cli.dask_worker tcp://")
    assert "--nthreads 4 --memory-limit 29.80GiB --nworkers 2 --nanny" in text


def test_what_lsf_would_get() -> None:
    text = script("lsf", project="steel", job_extra_directives=['-gpu "num=1"'], use_stdin=True)
    for line in ("-q gpu", '-P "steel"', "-n 8", "-W 08:00", '-gpu "num=1"'):
        assert f"#BSUB {line}\n" in text
    assert "--nthreads 4 --memory-limit 29.80GiB --nworkers 2 --nanny" in text


def test_what_pbs_would_get() -> None:
    text = script("pbs", account="steel", resource_spec="select=1:ncpus=8:ngpus=1:mem=64gb")
    for line in ("-q gpu", "-A steel", "-l select=1:ncpus=8:ngpus=1:mem=64gb", "-l walltime=08:00"):
        assert f"#PBS {line}\n" in text
    assert "--nthreads 4 --memory-limit 29.80GiB --nworkers 2 --nanny" in text


@pytest.mark.filterwarnings("ignore:unclosed cluster:ResourceWarning")  # what dask-jobqueue leaves of one half made
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"coers": 8}, "coers"), ({"cores": 8}, "You must specify how much cores and memory per job")],
)
def test_says_what_is_wrong_with_the_arguments(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(SettingsError, match=f"arguments of the slurm cluster: .*{reason}.*; correct them"):
        make_cluster(ClusterSettings(kind="slurm", arguments=arguments))


def test_starts_and_stops_workers_here() -> None:
    settings = ClusterSettings(kind="local", jobs=1, arguments={"processes": False})
    with started(settings) as client:
        client.wait_for_workers(1, timeout=10)
        assert client.submit(sum, [1, 2]).result(timeout=10) == 3
    assert client.status == "closed"


def test_says_that_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "CONNECT_SECONDS", 0.2)
    with (
        pytest.raises(SettingsError, match=r"tcp://127\.0\.0\.1:1: no scheduler answers there"),
        connected("tcp://127.0.0.1:1"),
    ):
        pass


@pytest.mark.parametrize("module", ["distributed", "dask_jobqueue"])
def test_says_what_to_install(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(SettingsError, match=r'--cluster needs .* pip install "napari-matseg\[cluster\]"'),
        started(ClusterSettings(kind="slurm")),
    ):
        pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SettingsError, match="--scheduler needs"), connected("tcp://127.0.0.1:1"):
        pass


def test_reads_a_cluster_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("kind: slurm\njobs: 3\narguments: {cores: 8, memory: 8GB}\n")
    assert read_cluster(path) == ClusterSettings(kind="slurm", jobs=3, arguments={"cores": 8, "memory": "8GB"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be read"),
        ("kind: [", "is not YAML"),
        ("slurm", "holds no settings"),
        ("kind: slurm\njob: 3", "job: there is no such setting"),
        ("kind: sulrm", "kind: Input should be 'slurm', 'lsf', 'pbs' or 'local'"),
    ],
)
def test_says_what_is_wrong_with_a_cluster_file(tmp_path: Path, text: str | None, reason: str) -> None:
    path = tmp_path / "cluster.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=rf"cluster\.yaml: .*{reason}"):
        read_cluster(path)
