"""A model file to a hub: in one commit with its receipt and its model card."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from aweigh.runtime.card.model_card import CardOptions, model_card
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.files.fetch import MODEL_FILES
from aweigh.runtime.files.hub import HubPlace, endpoint, hub_client, hub_errors, writing_token
from aweigh.runtime.inspection import ModelFacts, inspect_model

CARD_NAME = "README.md"


@dataclass(frozen=True)
class PushPlan:
    """What goes where.

    Attributes:
        model: an exported ONNX file.
        to: ``hf:owner/name[/FILE][@branch]``; without ``FILE`` the file is called ``model.onnx`` there, so that
            ``hf:owner/name`` alone finds it.
        card: what the card says and the file does not know; None writes no card.
        public: a repository that is not there yet is made for everyone to see; else for the owner alone.
        message: of the commit.
    """

    model: Path
    to: str
    card: CardOptions | None
    public: bool = False
    message: str = "Upload with aweigh"


@dataclass(frozen=True)
class Pushed:
    """What was uploaded.

    Attributes:
        source: that ``--model`` takes, with the digest.
        files: their names in the repository.
        commit: the address of the commit.
        verdict: of the receipt that went along; None where there is none.
    """

    source: str
    files: tuple[str, ...]
    commit: str
    verdict: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"source": self.source, "files": list(self.files), "commit": self.commit, "verdict": self.verdict}


def push(plan: PushPlan) -> Pushed:
    """Upload a model file with its receipt and card; the repository is made where there is none.

    Nothing appears in the repository unless all of it does.

    Raises:
        BadInput: no exported ONNX file, a receipt about another file, a malformed place, no such branch.
        CannotRun: no token in ``HF_TOKEN``, or one that may not write there; the hub cannot be reached; its client is
            not installed.
    """
    place = HubPlace.parse(plan.to, "--to")
    facts = _facts(plan.model)
    what = f"--to {plan.to}"
    token, client = writing_token(what), hub_client(what)
    name = place.file or MODEL_FILES[0]
    files = _files(plan, facts, place, name)
    hub = client.HfApi(endpoint=endpoint(), token=token)
    with hub_errors(what):
        hub.create_repo(place.repo, private=not plan.public, exist_ok=True)
        commit = hub.create_commit(
            place.repo,
            [client.CommitOperationAdd(path_in_repo=path, path_or_fileobj=content) for path, content in files.items()],
            commit_message=plan.message,
            revision=place.revision,
        )
    _require_unchanged(plan.model, facts)
    file = f"/{place.file}" if place.file else ""
    return Pushed(
        f"hf:{place.repo}{file}@{commit.oid}#sha256={facts.sha256}",
        tuple(files),
        commit.commit_url,
        None if facts.receipt is None else facts.receipt.verdict,
    )


def _facts(model: Path) -> ModelFacts:
    facts = inspect_model(model)
    if facts.engine is not None:
        raise BadInput(f"{model}: expected an ONNX file: an engine runs on machines like the one that built it alone")
    if facts.receipt is not None and not facts.receipt.sha256_matches:
        raise BadInput(
            f"{facts.receipt.file}: is about another file than {model}; remove it or write it again with aweigh verify"
        )
    return facts


def _files(plan: PushPlan, facts: ModelFacts, place: HubPlace, name: str) -> dict[str, str | bytes]:
    """By the path in the repository: the path here, or the content."""
    files: dict[str, str | bytes] = {name: str(plan.model)}
    if facts.receipt is not None:
        files[str(receipt_path(PurePosixPath(name)))] = facts.receipt.file
    if plan.card is not None:
        source = f"hf:{place.repo}" + (f"/{place.file}" if place.file else "")
        card = replace(plan.card, source=source, title=place.repo.partition("/")[2])
        files[CARD_NAME] = model_card(facts, card).encode()
    return files


def _require_unchanged(model: Path, facts: ModelFacts) -> None:
    if file_sha256(model) != facts.sha256:
        raise BadInput(f"{model}: was changed while it was uploaded; push it again")
