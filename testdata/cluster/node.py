"""The one node: containerd, the kubelet, the images that pods are made of, and metrics of its pods."""

import subprocess
from pathlib import Path

from api import MERGE
from machine import Failed, Machine

HERE = Path(__file__).resolve().parent
PAUSE = "localhost/pause:1"
NODE = "/api/v1/nodes/node"

CONTAINERD = """
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "{address}"
  # Where root may not make a process less likely to be killed, runc would end without a word.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"""
# Pods share the machine's network. The node is Ready only when some network is named; nobody calls it.
NETWORK = {"cniVersion": "0.4.0", "name": "none", "plugins": [{"type": "loopback"}]}


def start_runtime(machine: Machine) -> None:
    settings = CONTAINERD.format(folder=machine.folder, pause=PAUSE, address=machine.address)
    machine.write("cni/none.conflist", NETWORK)
    machine.start("containerd", ["containerd"], {"config": machine.write("containerd.toml", settings)})
    machine.wait_for("containerd", "containerd", lambda: ctr(machine.folder, "version").returncode == 0)
    load(machine.folder, make_pause(machine))


def make_pause(machine: Machine) -> Path:
    program, archive = machine.folder / "pause", machine.folder / "pause.tar"
    subprocess.run(["cc", "-static", "-Os", "-o", program, HERE / "pause.c"], check=True)
    subprocess.run([HERE / "image", PAUSE, archive, program], check=True)
    return archive


def load(folder: Path, archive: Path) -> None:
    """Brings an image into the node; pods name it with `imagePullPolicy: Never`."""
    done = ctr(folder, "images", "import", str(archive))
    if done.returncode != 0:
        raise Failed(f"{archive} cannot be loaded: {done.stderr.strip()}")


def ctr(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ctr", "--address", str(folder / "containerd.sock"), "--namespace", "k8s.io", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def start_kubelet(machine: Machine, kube: Path) -> None:
    settings = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": f"unix://{machine.folder}/containerd.sock",
        "address": machine.address,
        "healthzBindAddress": machine.address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": machine.path("pki/ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "podLogsDir": machine.path("pod-logs"),
        "volumePluginDir": machine.path("volume-plugins"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{machine.group.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "maxPods": 250,
        # A full disk is the machine's business: no pod is sent away and no image removed for it.
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
    }
    flags = {
        "config": machine.write("kubelet.json", settings),
        "kubeconfig": machine.path("node.kubeconfig"),
        "hostname-override": "node",
        "node-ip": machine.address,
        "root-dir": machine.path("kubelet"),
        "cert-dir": machine.path("kubelet-pki"),
    }
    machine.start("kubelet", [kube, "kubelet"], flags)
    # The kubelet refuses a loopback address for its node, the API does not. Logs and metrics need one.
    addresses = [{"type": "InternalIP", "address": machine.address}, {"type": "Hostname", "address": "node"}]
    status = {"status": {"addresses": addresses}}
    api = machine.api
    machine.wait_for("kubelet", "the node", lambda: api.call("PATCH", f"{NODE}/status", status, MERGE))
    machine.wait_for("kubelet", "the node's condition Ready", lambda: api.condition(NODE, "Ready"))
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    machine.wait_for("controller-manager", "the pods' service account", lambda: api.call("GET", account))


def start_metrics(machine: Machine, program: Path) -> None:
    group, port = "metrics.k8s.io", 4443
    user = machine.path("admin.kubeconfig")
    flags = {
        "kubeconfig": user,
        "authentication-kubeconfig": user,
        "authorization-kubeconfig": user,
        "bind-address": machine.address,
        "secure-port": str(port),
        "cert-dir": machine.path("metrics-pki"),
        "kubelet-insecure-tls": "true",
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-request-timeout": "5s",
        "metric-resolution": "10s",
    }
    machine.start("metrics-server", [program], flags)
    # A list of endpoints may hold no loopback address; the name of a Service may look like one.
    service = {
        "metadata": {"name": "metrics-server"},
        "spec": {"type": "ExternalName", "externalName": machine.address, "ports": [{"port": port}]},
    }
    api = {
        "metadata": {"name": f"v1beta1.{group}"},
        "spec": {
            "service": {"name": "metrics-server", "namespace": "kube-system", "port": port},
            "group": group,
            "version": "v1beta1",
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        },
    }
    services = "/apis/apiregistration.k8s.io/v1/apiservices"
    machine.api.call("POST", "/api/v1/namespaces/kube-system/services", service)
    machine.api.call("POST", services, api)
    named = f"{services}/v1beta1.{group}"
    machine.wait_for("metrics-server", "resource metrics", lambda: machine.api.condition(named, "Available"))
