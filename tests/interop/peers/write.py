"""Write, continue or freeze a dataset with whatever dtoolcore and storage broker are installed here.

Runs inside a peer's environment, by its interpreter: `python write.py < request.json > answer.json`. Nothing but the
peer's own packages and the standard library is imported.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import dtoolcore


def write_dataset(request: dict[str, Any]) -> dict[str, Any]:
    """Do what the request says; return the URI, and the names that were given.

    Keys: `base_uri` and `name` (a new dataset), or `uri` (a proto dataset that is there; with `frozen`, a frozen one);
    `admin` (values over those that dtoolcore makes up); `items` (relpath: base64 of the content); `item_metadata`
    (relpath: {key: value}); `readme`; `annotations`; `tags`; `freeze`; and, once it is frozen, `new_readme`,
    `new_name`, `overlays` (name: {relpath: value}) and `publish`. With `copy_from` (a URI) a dataset is copied to the
    `base_uri`, or with `resume` the rest of it.
    """
    if "copy_from" in request:
        copy = dtoolcore.copy_resume if request.get("resume") else dtoolcore.copy
        return {"uri": copy(request["copy_from"], request["base_uri"])}
    if request.get("frozen"):
        return _after_the_freeze(request, dtoolcore.DataSet.from_uri(request["uri"]))
    proto = _proto_dataset(request)
    with tempfile.TemporaryDirectory() as folder:
        for number, (relpath, content) in enumerate(request.get("items", {}).items()):
            path = Path(folder, str(number))
            path.write_bytes(base64.b64decode(content))
            proto.put_item(str(path), relpath)
    for relpath, pairs in request.get("item_metadata", {}).items():
        for key, value in pairs.items():
            proto.add_item_metadata(relpath, key, value)
    for name, value in request.get("annotations", {}).items():
        proto.put_annotation(name, value)
    for tag in request.get("tags", []):
        proto.put_tag(tag)
    if not request.get("freeze", True):
        return {"uri": proto.uri, "uuid": proto.uuid}
    proto.freeze()
    return _after_the_freeze(request, dtoolcore.DataSet.from_uri(proto.uri))


def _proto_dataset(request: dict[str, Any]) -> Any:
    if "uri" in request:
        return dtoolcore.ProtoDataSet.from_uri(request["uri"])
    admin = dtoolcore.generate_admin_metadata(request["name"])
    admin.update(request.get("admin", {}))
    proto = dtoolcore.generate_proto_dataset(admin, request["base_uri"])
    proto.create()
    proto.put_readme(request.get("readme", ""))
    return proto


def _after_the_freeze(request: dict[str, Any], dataset: Any) -> dict[str, Any]:
    if "new_readme" in request:
        dataset.put_readme(request["new_readme"])
    if "new_name" in request:
        dataset.update_name(request["new_name"])
    for name, values in request.get("overlays", {}).items():
        overlay = {dtoolcore.utils.generate_identifier(relpath): value for relpath, value in values.items()}
        dataset.put_overlay(name, overlay)
    answer = {"uri": dataset.uri, "uuid": dataset.uuid}
    if request.get("publish"):
        answer["url"] = dataset._storage_broker.http_enable()
    return answer


if __name__ == "__main__":
    json.dump(write_dataset(json.load(sys.stdin)), sys.stdout)
