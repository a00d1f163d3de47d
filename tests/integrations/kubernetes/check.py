"""check.py FOLDER KSERVE: every document of the folder has the fields its schema has, and says what it must."""
import ast
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import kubernetes_validate
import yaml

folder, kserve = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
failed = 0


def check(what, holds, more=""):
    global failed
    print(("ok    " if holds else "FAIL  ") + what + (f": {more}" if more else ""))
    failed += not holds


def kserve_tables():
    """Fields of KServe's types: {type: {field: type}}, out of its generated models, which are read, not imported (they want all of
    its dependencies)."""
    tables = {}
    for path in (kserve / "kserve" / "models").glob("v1*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            values = {t.id: ast.literal_eval(s.value) for s in node.body if isinstance(s, ast.Assign) for t in s.targets
                      if isinstance(t, ast.Name) and t.id in ("openapi_types", "attribute_map")}
            if len(values) == 2:
                tables[node.name] = {json_name: values["openapi_types"][name] for name, json_name in values["attribute_map"].items()}
    return tables


def unknown(tables, kind, value, place):
    """Fields that the type does not have, where a table says what it has."""
    if kind.startswith("list["):
        return [u for i, v in enumerate(value) for u in unknown(tables, kind[5:-1], v, f"{place}[{i}]")]
    if kind not in tables:
        return []
    if not isinstance(value, dict):
        return [f"{place} is no {kind}"]
    wrong = [f"{place}.{key}" for key in value if key not in tables[kind]]
    return wrong + [u for key, v in value.items() if key in tables[kind] for u in unknown(tables, tables[kind][key], v, f"{place}.{key}")]


tables = kserve_tables()
check("KServe's package has tables", {"V1alpha1ServingRuntime", "V1alpha1ServingRuntimeSpec", "V1beta1InferenceService"} <= set(tables), f"{len(tables)} types")
documents = [(path.name, d) for path in sorted(folder.glob("*.yaml")) for d in yaml.safe_load_all(path.read_text())]
check("there are documents", len(documents) == 6, f"{len(documents)}")
for name, document in documents:
    title = f"{name}: {document['kind']} {document['metadata']['name']}"
    if document["apiVersion"].startswith("serving.kserve.io/"):
        version = document["apiVersion"].split("/")[1]
        wrong = unknown(tables, f"V{version[1:]}{document['kind']}", document, document["kind"])
        check(f"{title} has KServe's fields", not wrong and f"V{version[1:]}{document['kind']}" in tables, wrong)
        for container in document["spec"].get("containers", []):
            # A container is Kubernetes': checked as part of a pod.
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
            kubernetes_validate.validate(pod, "1.31", strict=True)
    else:
        try:
            kubernetes_validate.validate(document, "1.31", strict=True)
            check(f"{title} has Kubernetes' fields", True)
        except kubernetes_validate.ValidationError as e:
            check(f"{title} has Kubernetes' fields", False, e.message)
# A table that takes everything would check nothing.
check("a field KServe does not have is noticed", unknown(tables, "V1alpha1ServingRuntimeSpec", {"suportedModelFormats": []}, "spec") == ["spec.suportedModelFormats"])
try:
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"containres": []}}, "1.31", strict=True)
    check("a field Kubernetes does not have is noticed", False)
except kubernetes_validate.ValidationError:
    check("a field Kubernetes does not have is noticed", True)

of = {(d["kind"], d["metadata"]["name"]): d for _, d in documents}
plugin = of["DaemonSet", "akida-device-plugin"]["spec"]["template"]["spec"]["containers"][0]
device = yaml.safe_load(plugin["args"][1])
paths = {p["path"]: p for p in device["groups"][0]["paths"]}
check("the plugin's device: groups of VFIO, and its node for all of them", device["name"] == "akida" and paths["/dev/vfio/vfio"]["limit"] >= 8 and "/dev/vfio/[0-9]*" in paths)
for key in (("DaemonSet", "akida-serve"), ("ServingRuntime", "akida")):
    spec = of[key]["spec"]
    container = (spec["template"]["spec"] if key[0] == "DaemonSet" else spec)["containers"][0]
    check(f"{key[1]} asks for a board", container["resources"]["limits"]["squat.ai/akida"] == 1)
    security = container["securityContext"]
    check(f"{key[1]} is confined", security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"] and security["capabilities"] == {"drop": ["ALL"], "add": ["IPC_LOCK"]})
check("the simulated runtime asks for none", "squat.ai/akida" not in of["ServingRuntime", "akida-simulated"]["spec"]["containers"][0]["resources"]["limits"])
check("the model names a runtime that is there", ("ServingRuntime", of["InferenceService", "mnist-cnn"]["spec"]["predictor"]["model"]["runtime"]) in of)
service, serve = of["Service", "akida-serve"]["spec"], of["DaemonSet", "akida-serve"]["spec"]["template"]
ports = {p["name"] for p in serve["spec"]["containers"][0]["ports"]}
check("the address leads to the service's ports", all(p["targetPort"] in ports for p in service["ports"]) and service["selector"].items() <= serve["metadata"]["labels"].items())

# The container's start: which boards it finds in what it was granted.
with tempfile.TemporaryDirectory() as place:
    place = pathlib.Path(place)
    (place / "vfio").mkdir()
    for group, functions in {"7": {"0000:03:00.0": "0x1e7c"}, "12": {"0000:04:00.0": "0x10de"}, "15": {"0000:05:00.0": "0x1e7c", "0000:05:00.1": "0x8086"}, "20": {"0000:06:00.0": "0x1e7c"}}.items():
        if group != "20":
            (place / "vfio" / group).touch()
        for function, vendor in functions.items():
            at = place / "kernel" / "iommu_groups" / group / "devices" / function
            at.mkdir(parents=True)
            (at / "vendor").write_text(vendor + "\n")
    (place / "vfio" / "vfio").touch()

    def start(*words, **more):
        environment = {"PATH": os.environ["PATH"], "AKIDA_SYSFS": str(place), "AKIDA_VFIO": str(place / "vfio"), "AKIDA_SERVE": "/bin/echo", **more}
        return subprocess.run([folder / "serve-granted-boards", *words], env=environment, capture_output=True, text=True)
    said = start("--repository=/models")
    check("granted boards, and only these", said.stdout.split() == ["--repository=/models", "--device", "pci:0000:05:00.0", "--device", "pci:0000:03:00.0"] or
          said.stdout.split() == ["--repository=/models", "--device", "pci:0000:03:00.0", "--device", "pci:0000:05:00.0"], said.stdout.strip() or said.stderr)
    check("simulated boards by the environment", start(AKIDA_DEVICES="sim:akida2 sim:akd1000").stdout.split() == ["--device", "sim:akida2", "--device", "sim:akd1000"])
    none = start(AKIDA_VFIO=str(place / "kernel"))
    check("no board: exit 69 and why", none.returncode == 69 and re.search("no Akida board", none.stderr) is not None, none.stderr.strip())
image = (folder / "Containerfile").read_text()
check("the image copies what is there", all((folder / f).exists() for f in re.findall(r"^COPY (\S+)", image, re.M) if not f.endswith(".deb")))
sys.exit(1 if failed else 0)
