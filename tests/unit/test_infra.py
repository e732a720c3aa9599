"""What lies in infra/, checked as far as it can be without a cluster, a registry or a cloud."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import jsonschema
import promql_parser
import pytest
import yaml
from kubernetes_validate import ValidationError, validate

from luke_batch import JobConfig
from luke_batch.annotate.annotator import model_stages
from luke_batch.distributed.resources import Node, demands, plan_pools
from tests.metric_names import INFRA, expressions, rules

KUBERNETES = "1.34"
KUBERAY = INFRA / "kuberay"

Manifest = dict[str, Any]


def manifests() -> Iterator[tuple[str, Manifest]]:
    """Every resource with its file and kind."""
    for path in sorted(KUBERAY.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield f"{path.name}:{document['kind']}", document


def pod_templates(node: object) -> Iterator[Manifest]:
    """Every pod template inside of a resource."""
    if isinstance(node, dict):
        members = cast("Manifest", node)
        if "containers" in members.get("spec", {}):
            yield members
        for value in members.values():
            yield from pod_templates(value)
    elif isinstance(node, list):
        for value in cast("list[object]", node):
            yield from pod_templates(value)


RESOURCES = dict(manifests())
RAY = {name: resource for name, resource in RESOURCES.items() if resource["apiVersion"] == "ray.io/v1"}


def ray_cluster(name: str) -> Manifest:
    """The cluster of a RayCluster or a RayJob."""
    spec = RAY[name]["spec"]
    return spec.get("rayClusterSpec", spec)


@pytest.mark.parametrize("name", sorted(RESOURCES))
def test_resources_fit_their_schemas(name: str) -> None:
    """Kubernetes' own kinds fit its schema, KubeRay's in their pod templates; no unknown field is let through."""
    resource = RESOURCES[name]
    if name not in RAY:
        validate(resource, KUBERNETES, strict=True)
    for template in pod_templates(resource.get("spec", {})):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        validate({**pod, "metadata": {"name": "a", **template.get("metadata", {})}}, KUBERNETES, strict=True)


def test_a_misspelt_field_is_refused() -> None:
    """The check itself can fail."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containerz": []}}
    with pytest.raises(ValidationError, match="containerz"):
        validate(pod, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", sorted(RESOURCES))
def test_pods_are_confined(name: str) -> None:
    """No root, no more rights than needed, requests equal to limits where Ray counts them, and the label that
    the network policy selects.
    """
    for template in pod_templates(RESOURCES[name].get("spec", {})):
        assert template["spec"]["securityContext"]["runAsNonRoot"]
        assert template["metadata"]["labels"]["app.kubernetes.io/name"] == "luke-batch"
        for container in template["spec"]["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            if container["name"].startswith("ray-"):
                assert container["resources"]["requests"] == container["resources"]["limits"]


@pytest.mark.parametrize("name", sorted(RAY))
def test_ray_asks_for_its_token(name: str) -> None:
    """Nobody runs code on a cluster without it, and no port leaves Kubernetes."""
    assert ray_cluster(name)["authOptions"] == {"mode": "token"}
    assert ray_cluster(name)["headGroupSpec"]["serviceType"] == "ClusterIP"


@pytest.mark.parametrize("name", sorted(RAY))
def test_worker_groups_hold_the_actors(name: str) -> None:
    """The nodes of a RayJob, and those that the nightly job asks for, hold all actors of the job's
    configuration with nothing left over; autoscaling reaches as far.
    """
    text = RESOURCES["job-config.yaml:ConfigMap"]["data"]["job.yaml"]
    config = JobConfig.model_validate(yaml.safe_load(text))
    groups = ray_cluster(name)["workerGroupSpecs"]
    wanted = _asked_nightly() if name.startswith("raycluster") else [group["replicas"] for group in groups]
    nodes = [Node(0, 0)]
    for group, count in zip(groups, wanted, strict=True):
        assert count <= group["maxReplicas"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        nodes += [Node(float(limits["cpu"]), float(limits.get("nvidia.com/gpu", 0)))] * count
    stages = demands(model_stages(config))
    pools = plan_pools(nodes, stages, items=10_000)
    assert [pool.actors for pool in pools.models] == [stage.actors for stage in stages]
    with_gpu, without = [sum(bool(node.gpus) is gpu for node in nodes) for gpu in (True, False)]
    assert pools.models[0].actors == 2 * with_gpu
    assert pools.models[1].actors == 8 * (without - 1)


def _asked_nightly() -> list[int]:
    """Nodes of each worker group for which nightly.yaml asks, checked against the shapes of the groups."""
    (container,) = RESOURCES["nightly.yaml:CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    groups = ray_cluster("raycluster.yaml:RayCluster")["workerGroupSpecs"]
    asked = [argument for argument in container["args"] if argument[0].isdigit()]
    for text, group in zip(asked, groups, strict=True):
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        gpus = "+" + limits["nvidia.com/gpu"] if "nvidia.com/gpu" in limits else ""
        assert text.partition("x")[2] == limits["cpu"] + gpus
    return [int(text.partition("x")[0]) for text in asked]


def test_ray_up_fits_rays_schema() -> None:
    """`ray up` refuses what does not."""
    schema = json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text("utf-8"))
    document = yaml.safe_load((INFRA / "ray-up" / "aws.yaml").read_text("utf-8"))
    jsonschema.validate(document, schema)
    assert document["head_node_type"] in document["available_node_types"]
    assert (
        sum(kind.get("max_workers", 0) for kind in document["available_node_types"].values()) <= document["max_workers"]
    )


def test_dockerfile_is_clean() -> None:
    """By hadolint; and the container does not run as root."""
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, INFRA / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    lines = (INFRA / "Dockerfile").read_text("utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 1000:1000"]


def test_what_the_image_copies_is_there_and_let_through() -> None:
    """Every COPY from the checkout exists, and .dockerignore does not hide it."""
    root = INFRA.parent
    lines = (INFRA / "Dockerfile").read_text("utf-8").splitlines()
    copies = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    ignore = (INFRA / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for source in (source for sources in copies for source in sources):
        assert (root / source).exists(), source
        assert f"!{source}" in ignore


def test_lifecycle_rule_aborts_open_uploads() -> None:
    """botocore, which sends it, knows its fields."""
    from botocore.session import Session
    from botocore.validate import ParamValidator

    rule = json.loads((INFRA / "s3" / "lifecycle.json").read_text("utf-8"))
    operation = Session().get_service_model("s3").operation_model("PutBucketLifecycleConfiguration")
    report = ParamValidator().validate(
        {"Bucket": "news-annotated", "LifecycleConfiguration": rule}, operation.input_shape
    )
    assert not report.has_errors(), report.generate_report()
    assert rule["Rules"][0]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 1}


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_queries_are_promql(where: str, expression: str) -> None:
    """They parse once Grafana has put in its variables."""
    text = expression.replace("$__rate_interval", "5m").replace("$__interval", "1m").replace("$session", ".*")
    assert promql_parser.parse(text), where


def test_alerts_say_what_to_do() -> None:
    """Each has a severity, a summary and a description."""
    for rule in rules():
        if "alert" in rule:
            assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
            assert rule["labels"]["severity"] in {"warning", "critical"}


def test_scaled_waits_for_a_node_for_each_bundle() -> None:
    """A large node does not stand in for two."""
    from infra.scaled import are_there, bundles

    wanted = bundles(["2x8", "1x4+1"])
    assert wanted == [{"CPU": 8}, {"CPU": 8}, {"CPU": 4, "GPU": 1}]
    cpu = {"Alive": True, "Resources": {"CPU": 8.0}}
    gpu = {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 1.0}}
    assert are_there(wanted, [cpu, cpu, gpu])
    assert not are_there(wanted, [cpu, gpu])
    assert not are_there(wanted, [cpu, {**cpu, "Alive": False}, gpu])
