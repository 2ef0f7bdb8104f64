"""A stand-in for the Hugging Face Hub: those of its HTTP endpoints that sharing a run needs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"
LARGE = (".safetensors", ".png", ".wav")
"""Suffixes of files that the hub stores by their digest (Git LFS)."""


@dataclass
class Repository:
    """The commits of a repository, each all its files, and its branches."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        content = json.dumps({name: hashlib.sha1(data).hexdigest() for name, data in files.items()})
        oid = hashlib.sha1(f"{len(self.commits)} {content}".encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class HubServer(ThreadingHTTPServer):
    """The server; `repositories` by name, and `requests` as (method, path)."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def create(self, name: str, files: dict[str, bytes], private: bool = False) -> Repository:
        self.repositories[name] = repository = Repository(private)
        repository.commit("main", files)
        return repository

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._answer("GET")

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, path))
        for pattern, verb, handle in _ROUTES:
            if verb == method and (match := re.fullmatch(pattern, path)):
                return handle(self, body, *match.groups())
        return self._send(404, {"error": f"no route {method} {path}"})

    def _send(
        self, status: int, content: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _is_trusted(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, name: str, writes: bool = False) -> Repository | None:
        """A repository that the client may use; answers with an error if there is none."""
        repository = self.server.repositories.get(name)
        allowed = self._is_trusted() or (repository and not repository.private and not writes)
        if repository is None or not allowed:
            self._send(401, {"error": "Repository Not Found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        return repository

    def _commit(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """A commit and its files; answers with an error if there is none."""
        if not (repository := self._repository(name)):
            return None
        if not (oid := repository.resolve(revision)):
            headers = {"X-Error-Code": "RevisionNotFound"}
            self._send(404, {"error": f"Invalid rev id: {revision}"}, headers)
            return None
        return oid, repository.commits[oid]

    def create(self, body: bytes) -> None:
        request = json.loads(body)
        name = f"{request['organization']}/{request['name']}"
        if not self._is_trusted():
            self._send(401, {"error": "Invalid username or password."})
            return
        exists = name in self.server.repositories
        if not exists:
            files = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
            self.server.create(name, files, request.get("visibility") == "private")
        url = f"{self.server.endpoint}/{name}"
        self._send(409 if exists else 200, {"url": url, "name": name})

    def create_branch(self, body: bytes, name: str, branch: str) -> None:
        if repository := self._repository(name, writes=True):
            exists = branch in repository.branches
            repository.branches.setdefault(branch, repository.branches["main"])
            self._send(409 if exists else 200, {})

    def validate_card(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, body: bytes, name: str, revision: str) -> None:
        if self._repository(name, writes=True):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self._send(200, {"files": files})

    def batch(self, body: bytes, name: str) -> None:
        if self._repository(name, writes=True):
            objects = [
                {
                    **each,
                    "actions": {"upload": {"href": f"{self.server.endpoint}/lfs/{each['oid']}"}},
                }
                for each in json.loads(body)["objects"]
            ]
            self._send(200, {"transfer": "basic", "objects": objects})

    def store(self, body: bytes, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.large_files[oid] = body
        self._send(200, {})

    def commit(self, body: bytes, name: str, branch: str) -> None:
        if not (repository := self._repository(name, writes=True)):
            return
        files = dict(repository.commits[repository.branches[branch]])
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.large_files[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        oid = repository.commit(branch, files)
        url = f"{self.server.endpoint}/{name}/commit/{oid}"
        self._send(200, {"commitUrl": url, "commitOid": oid, "success": True})

    def info(self, body: bytes, name: str, revision: str | None = None) -> None:
        if commit := self._commit(name, revision or "main"):
            oid, files = commit
            siblings = [{"rfilename": path} for path in files]
            self._send(200, {"id": name, "sha": oid, "private": False, "siblings": siblings})

    def tree(self, body: bytes, name: str, revision: str) -> None:
        if commit := self._commit(name, revision):
            entries: list[dict[str, Any]] = []
            for path, data in commit[1].items():
                entry = {"type": "file", "path": path, "size": len(data)}
                entry["oid"] = hashlib.sha1(data).hexdigest()
                if path.endswith(LARGE):
                    sha256 = hashlib.sha256(data).hexdigest()
                    entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
                entries.append(entry)
            self._send(200, entries)

    def download(self, body: bytes, name: str, revision: str, path: str) -> None:
        if commit := self._commit(name, revision):
            oid, files = commit
            if path not in files:
                self._send(404, {"error": "no entry"}, {"X-Error-Code": "EntryNotFound"})
                return
            hasher = hashlib.sha256 if path.endswith(LARGE) else hashlib.sha1
            etag = f'"{hasher(files[path]).hexdigest()}"'
            self._send(200, files[path], {"ETag": etag, "X-Repo-Commit": oid})


_NAME = "([^/]+/[^/]+)"
_ROUTES = [
    ("/api/repos/create", "POST", _Handler.create),
    (rf"/api/models/{_NAME}/branch/(.+)", "POST", _Handler.create_branch),
    ("/api/validate-yaml", "POST", _Handler.validate_card),
    (rf"/api/models/{_NAME}/preupload/(.+)", "POST", _Handler.preupload),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", "POST", _Handler.batch),
    ("/lfs/(.+)", "PUT", _Handler.store),
    (rf"/api/models/{_NAME}/commit/(.+)", "POST", _Handler.commit),
    (rf"/api/models/{_NAME}", "GET", _Handler.info),
    (rf"/api/models/{_NAME}/revision/(.+)", "GET", _Handler.info),
    (rf"/api/models/{_NAME}/tree/([^/]+)", "GET", _Handler.tree),
    (rf"/{_NAME}/resolve/([^/]+)/(.+)", "GET", _Handler.download),
]
"""Path, method and handler of each endpoint, the first that fits."""
