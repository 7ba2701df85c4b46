"""The files that clusters are told: what of them can be checked without a cluster."""

import pytest
import yaml
from paths import ROOT

from latadj_jax.cli.serve import make_service
from latadj_jax.cluster.arguments import argv_of, parsed

DEPLOY = ROOT / "deploy"


def test_the_args_of_the_ray_application_are_flags_of_the_server():
    (application,) = yaml.safe_load((DEPLOY / "ray_serve.yaml").read_text())["applications"]
    args = parsed(argv_of(application["args"]))
    assert (args.slo_ms, args.speedup, args.truncate) == (100, (1.5, 2.0, 3.0), True)
    module, name = application["import_path"].split(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    assert f"\ndef {name}(" in source


def test_kuberay_serves_what_serve_run_serves():
    service = yaml.safe_load((DEPLOY / "kuberay.yaml").read_text())
    served = yaml.safe_load(service["spec"]["serveConfigV2"])
    assert served == yaml.safe_load((DEPLOY / "ray_serve.yaml").read_text())


def test_the_pods_ask_for_what_the_server_answers():
    """Its flags, its port, its user and its probes."""
    deployment, service, *_ = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    (pod,) = deployment["spec"]["template"]["spec"]["containers"]
    assert parsed(pod["args"]).truncate
    recipe = (DEPLOY / "Dockerfile").read_text()
    port = str(pod["ports"][0]["containerPort"])
    assert f'ENTRYPOINT ["latadj", "serve", "--host", "0.0.0.0", "--port", "{port}"]' in recipe
    assert f"EXPOSE {port}\n" in recipe
    user = deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert f"\nUSER {user}\n" in recipe
    probed = [pod[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")]
    assert probed == ["/health", "/ready"]
    assert service["spec"]["ports"][0]["targetPort"] == pod["ports"][0]["name"]


def test_args_are_written_as_flags():
    args = {"model": "m", "slo_ms": 50, "truncate": True, "strict": None, "max_queue": 7}
    assert argv_of(args) == ["m", "--slo_ms=50", "--truncate", "--max_queue=7"]
    assert argv_of({"model": "m", "truncate": False}) == ["m"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [({}, "args name no model"), ({"model": "m", "slo": 1}, "'--slo=1' is no flag here"),
     ({"model": "m", "port": "x"}, "takes numbers")],
)  # fmt: skip
def test_bad_args_get_one_sentence(args, sentence):
    with pytest.raises(ValueError, match=sentence):
        make_service(parsed(argv_of(args)))
