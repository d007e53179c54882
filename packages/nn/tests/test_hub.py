"""Push to, load from and stay away from a Hub: a small one that this test runs itself."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest

import cellweave
from cellweave.errors import (
    DataError,
    IntegrityError,
    MissingDependencyError,
    UnreadableFileError,
)

pytest.importorskip("huggingface_hub")


class Hub(BaseHTTPRequestHandler):
    """Keep commits in memory; speak as much of the Hub's protocol as its client needs."""

    commits: dict  # commit to {path: bytes}
    branches: dict  # repository to {branch: commit}
    asked: list

    def log_message(self, *_):
        """Print nothing."""

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.asked.append(self.path)
        path = unquote(self.path).split("?")[0].strip("/")
        if path.startswith("api/models/"):
            owner, name, *rest = path.removeprefix("api/models/").split("/")
            self.answer_about(f"{owner}/{name}", rest)
        else:
            owner, name, _, revision, *rest = path.split("/")
            self.answer_file(f"{owner}/{name}", revision, "/".join(rest))

    def answer_about(self, repo, rest):
        if repo not in self.branches:
            return self.refuse("RepoNotFound")
        commit = self.commit_of(repo, rest[1] if len(rest) > 1 else "main")
        if commit is None:
            return self.refuse("RevisionNotFound")
        files = self.commits[commit]
        if rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": p, "size": len(b), "oid": digest(b)}
                for p, b in files.items()
            ]
            return self.send(entries)
        siblings = [{"rfilename": p, "size": len(b), "blobId": digest(b)} for p, b in files.items()]
        return self.send({"id": repo, "sha": commit, "siblings": siblings, "private": False})

    def answer_file(self, repo, revision, path):
        commit = self.commit_of(repo, revision)
        data = self.commits[commit][path]
        self.send_response(200)
        self.send_header("ETag", f'"{digest(data)}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path = unquote(self.path).split("?")[0]
        self.asked.append(path)
        if path == "/api/repos/create":
            values = json.loads(body)
            repo = f"{values['organization']}/{values['name']}"
            self.branches.setdefault(repo, {"main": "0" * 40})
            self.commits.setdefault("0" * 40, {".gitattributes": b"*.safetensors filter=lfs"})
            return self.send({"url": f"http://{self.headers['Host']}/{repo}", "id": repo})
        if path == "/api/validate-yaml":
            return self.send({"errors": [], "warnings": []})
        owner, name, what, *rest = path.removeprefix("/api/models/").split("/")
        repo = f"{owner}/{name}"
        if owner == "forbidden":
            return self.refuse("no", code=403)
        if what == "branch":
            self.branches[repo].setdefault(rest[0], self.branches[repo]["main"])
            return self.send({})
        if what == "preupload":
            asked = json.loads(body)["files"]
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in asked
            ]
            return self.send({"files": files})
        return self.send(self.committed(repo, rest[0], body))

    def committed(self, repo, branch, body):
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(self.commits[self.branches[repo][branch]])
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        commit = hashlib.sha1(body.encode()).hexdigest()
        self.commits[commit] = files
        self.branches[repo][branch] = commit
        return {
            "commitUrl": f"http://{self.headers['Host']}/{repo}/commit/{commit}",
            "commitOid": commit,
        }

    def commit_of(self, repo, revision):
        branches = self.branches[repo]
        return branches.get(revision, revision if revision in self.commits else None)

    def refuse(self, code, *, status=404, **_):
        self.send_response(403 if code == "no" else status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send(self, values):
        data = json.dumps(values).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def digest(data):
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub():
    kind = type("OneHub", (Hub,), {"commits": {}, "branches": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def with_hub(code, hub, place, **environment):
    """Run code in a process whose only Hub is ours: the client reads its address when imported."""
    host, port = hub.server_address
    env = os.environ | {
        "HF_ENDPOINT": f"http://{host}:{port}", "HF_HOME": str(place / "home"), "HF_TOKEN": "t",
        "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*", **environment,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


CODE = """
import json, sys
import cellweave
from cellweave.errors import CellweaveError
folder, cells = {folder!r}, {cells!r}
import anndata
adata = anndata.read_h5ad(cells)[:3].copy()
def told(run):
    try:
        return run()
    except CellweaveError as error:
        return type(error).__name__ + ": " + str(error)
first = cellweave.push(folder, "lab/tiny")
second = cellweave.push(folder, "lab/tiny", revision="next", message="Again")
loaded = cellweave.load("lab/tiny", revision=first)
print(json.dumps({{
    "commits": [first, second],
    "embedding": loaded.embed(adata).values.tolist(),
    "branch": cellweave.load("lab/tiny", revision="next").n_parameters,
    "revision": told(lambda: cellweave.load("lab/tiny", revision="none")),
    "repository": told(lambda: cellweave.load("lab/other")),
    "forbidden": told(lambda: cellweave.push(folder, "forbidden/tiny")),
    "absent": told(lambda: cellweave.load("lab/absent", offline=True)),
    "name": told(lambda: cellweave.push(folder, "tiny")),
}}))
"""

OFFLINE = """
import json, cellweave
print(json.dumps(cellweave.load("lab/tiny", revision={commit!r}, offline=True).n_parameters))
"""


def test_push_load_by_revision_and_offline(trained_run, hub, tmp_path):
    folder, cells = trained_run / "run" / "model", trained_run / "cells.h5ad"
    found = with_hub(CODE.format(folder=str(folder), cells=str(cells)), hub, tmp_path)
    model = cellweave.load(folder)
    import anndata

    expected = model.embed(anndata.read_h5ad(cells)[:3].copy()).values
    assert found["embedding"] == expected.tolist()
    assert found["branch"] == model.n_parameters
    kind = hub.RequestHandlerClass
    assert kind.branches["lab/tiny"] == dict(zip(["main", "next"], found["commits"], strict=True))
    files = kind.commits[found["commits"][0]]
    assert {"config.json", "model.safetensors", "README.md", "MANIFEST.json"} <= set(files)
    assert "UnreadableFileError: 'lab/tiny' has no revision 'none'" in found["revision"]
    assert "UnreadableFileError: There is no model 'lab/other' on the Hub" in found["repository"]
    assert "UnwritableError: Cannot push" in found["forbidden"]
    assert "'lab/absent' is not in the local cache, and offline=True" in found["absent"]
    assert "DataError: 'tiny' is no name on the Hub" in found["name"]
    kind.asked.clear()
    code = OFFLINE.format(commit=found["commits"][0])
    assert with_hub(code, hub, tmp_path) == model.n_parameters
    assert kind.asked == []


def test_what_is_asked_of_a_hub_is_checked_first(trained_run, tmp_path, monkeypatch):
    folder = trained_run / "run" / "model"
    with pytest.raises(UnreadableFileError, match=r"revision is 'v1' but .* is not 'owner/name'"):
        cellweave.load(folder, revision="v1")
    with pytest.raises(UnreadableFileError, match="There is nothing at"):
        cellweave.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is no name on the Hub"):
        cellweave.push(folder, "../../etc")
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "huggingface_hub" else found(n, *a)
    )
    with pytest.raises(MissingDependencyError, match=r"pip install 'cellweave-core\[hub\]'"):
        cellweave.load("lab/tiny")


def test_the_command_pushes_privately_unless_told(monkeypatch, capsys):
    import cellweave.verbs.hub
    from cellweave.cli.app import main

    told = []
    monkeypatch.setattr(
        cellweave.verbs.hub, "push", lambda *a, **o: told.append((a, o)) or "c0ffee"
    )
    assert main(["push", "run/model", "lab/tiny"]) == 0
    assert "c0ffee" in capsys.readouterr().out
    assert main(["push", "run/model", "lab/tiny", "--public", "--revision", "v1", "--json"]) == 0
    assert [o for _, o in told] == [
        {"revision": None, "private": True}, {"revision": "v1", "private": False},
    ]  # fmt: skip


def test_a_damaged_folder_is_not_pushed(trained_run, tmp_path):
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(trained_run / "run" / "model", folder)
    (folder / "README.md").write_text("other")
    with pytest.raises(IntegrityError, match=r"README\.md"):
        cellweave.push(folder, "lab/tiny")
