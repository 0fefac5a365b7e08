"""etcd, the API server, the controllers and the scheduler, on one loopback address."""

import subprocess
from pathlib import Path

from machine import USERS, Machine

# One line per request, written when it has been answered; tests count them by user agent.
AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}
# Without OpenSSL's own settings, which make an authority of every certificate.
OPENSSL = "[req]\ndistinguished_name = name\n[name]\n"


def start(machine: Machine, kube: Path) -> None:
    certificates(machine)
    for user in USERS:
        machine.kubeconfig(user)
    etcd(machine, kube)
    api_server(machine, kube)
    machine.wait_for("apiserver", "the API server", lambda: machine.api.call("GET", "/readyz") == "ok")
    common = {"leader-elect": "false", "bind-address": machine.address}
    controllers = {
        "kubeconfig": machine.path("controller-manager.kubeconfig"),
        "use-service-account-credentials": "true",
        "service-account-private-key-file": machine.path("pki/tokens.key"),
        "root-ca-file": machine.path("pki/ca.crt"),
    }
    machine.start("controller-manager", [kube, "controller-manager"], common | controllers)
    scheduler = {"kubeconfig": machine.path("scheduler.kubeconfig")}
    machine.start("scheduler", [kube, "scheduler"], common | scheduler)


def etcd(machine: Machine, kube: Path) -> None:
    client, peer = (f"http://{machine.address}:{port}" for port in (2379, 2380))
    flags = {
        "data-dir": machine.path("etcd"),
        "unsafe-no-fsync": "true",  # its data need not outlive the machine
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"default={peer}",
    }
    machine.start("etcd", [kube, "etcd"], flags)


def api_server(machine: Machine, kube: Path) -> None:
    rows = ((machine.tokens[user], name, user, groups) for user, (name, groups) in USERS.items())
    tokens = "".join(f'{token},{name},{user},"{groups}"\n' for token, name, user, groups in rows)
    flags = {
        "etcd-servers": f"http://{machine.address}:2379",
        "bind-address": machine.address,
        "advertise-address": machine.address,
        "secure-port": "443",
        "endpoint-reconciler-type": "none",  # a list of endpoints may hold no loopback address
        "service-cluster-ip-range": machine.network,
        "tls-cert-file": machine.path("pki/apiserver.crt"),
        "tls-private-key-file": machine.path("pki/apiserver.key"),
        "client-ca-file": machine.path("pki/ca.crt"),
        "token-auth-file": machine.write("tokens.csv", tokens),
        "authorization-mode": "Node,RBAC",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": machine.path("pki/tokens.crt"),
        "service-account-signing-key-file": machine.path("pki/tokens.key"),
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-client-certificate": machine.path("pki/kubelet-client.crt"),
        "kubelet-client-key": machine.path("pki/kubelet-client.key"),
        # How it speaks for a user to an API that it passes on, such as metrics.k8s.io.
        "proxy-client-cert-file": machine.path("pki/front.crt"),
        "proxy-client-key-file": machine.path("pki/front.key"),
        "requestheader-client-ca-file": machine.path("pki/front-ca.crt"),
        "requestheader-allowed-names": "front",
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "audit-policy-file": machine.write("audit-policy.json", AUDIT),
        "audit-log-path": machine.path("audit.log"),
    }
    machine.start("apiserver", [kube, "apiserver"], flags)


def certificates(machine: Machine) -> None:
    """Two authorities, what they sign, and the key for the tokens of service accounts."""
    settings = machine.write("pki/openssl.conf", OPENSSL)

    def make(name: str, subject: str, *extensions: str, authority: str | None = None) -> None:
        out, by = machine.path(f"pki/{name}"), machine.path(f"pki/{authority}")
        command = ["openssl", "req", "-x509", "-config", settings, "-days", "3650", "-subj", subject]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        command += ["-keyout", f"{out}.key", "-out", f"{out}.crt"]
        command += [word for extension in extensions for word in ("-addext", extension)]
        command += ["-CA", f"{by}.crt", "-CAkey", f"{by}.key"] if authority else []
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)

    for authority in ("ca", "front-ca"):
        make(authority, f"/CN={authority}", "basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign")
    leaf = "basicConstraints=critical,CA:FALSE"
    client, server = "extendedKeyUsage=clientAuth", "extendedKeyUsage=serverAuth"
    names = f"subjectAltName=IP:{machine.address},DNS:localhost,DNS:kubernetes.default.svc"
    make("apiserver", "/CN=apiserver", leaf, names, server, authority="ca")
    make("kubelet-client", "/O=system:masters/CN=apiserver", leaf, client, authority="ca")
    make("front", "/CN=front", leaf, client, authority="front-ca")
    make("tokens", "/CN=tokens")
