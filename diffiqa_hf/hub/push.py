# Copyright 2026 The diffiqa_hf authors. Licensed under the Apache License, Version 2.0.
"""A folder to the Hugging Face Hub, in one commit, completed by what it needs to be loaded from there."""

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import yaml
from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub import constants as hub_constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..file_utils import write_text
from ..version import __version__
from .card_merging import merge_cards
from .cards import CARD_FILE, complete_card, extended_texts, shipped_folder, with_results
from .folders import NOT_PUSHED, TEMPLATES, check_folder, component_files, pushed_files
from .record import HubError, ResultFacts, TrainingFacts, first_line


logger = logging.getLogger(__name__)


def complete_folder(
    folder: str | os.PathLike, kind: str, repo_id: str | None = None, facts: TrainingFacts | None = None
) -> dict[str, str]:
    """
    What a folder still needs to be loaded from the Hub in every way: the text of `README.md` where it is missing or
    not whole, and where there is none, of `pipeline.py` for a pipeline, of `preprocessor_config.json` for a model.

    Args:
        folder, repo_id: As in [`write_model_card`].
        kind (`str`): One of `TEMPLATES`.
        facts ([`TrainingFacts`], *optional*): In place of those in the folder, whose `training.json` is then among the
            files.

    Returns:
        `dict[str, str]`: texts by the names of the files.
    """
    folder = Path(folder)
    parts = {}
    if kind == "diffiqa":
        if not (folder / "pipeline.py").exists():
            parts["pipeline.py"] = (shipped_folder("pipelines") / "diffiqa" / "pipeline.py").read_text(
                encoding="utf-8"
            )
    elif kind != "quality_labels" and not (folder / "preprocessor_config.json").exists():
        from ..image_processing_face import FaceImageProcessor

        config = json.loads((folder / "config.json").read_text())
        # These resize: faces are made at their size at once.
        size = dict(zip(("height", "width"), config["crop_size"], strict=True))
        processor = FaceImageProcessor(
            size=size if config["model_type"] in ("clib_fiqa", "faceqnet", "lightqnet", "pcnet") else None
        )
        parts["preprocessor_config.json"] = processor.to_json_string()
    if facts is not None:
        return parts | extended_texts(folder, kind, facts, repo_id)
    card, path = complete_card(folder, kind, repo_id=repo_id), folder / CARD_FILE
    if not path.exists() or path.read_text(encoding="utf-8") != card:
        parts[CARD_FILE] = card
    return parts


def push_folder(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
    results: Iterable[ResultFacts] = (),
    notes: Iterable[str] = (),
) -> tuple[str | None, list[str], list[str]]:
    """
    Uploads a folder to the Hub, in one commit, so that no revision has half a model. What is missing in it (see
    [`complete_folder`]) is written into it first. What somebody has changed in the card on the Hub stays there (see
    [`~diffiqa_hf.hub.card_merging.merge_cards`]).

    Args:
        folder: Of a pipeline, an FR model, a face quality model, or of labels, which become a dataset.
        repo_id (`str`): `"name"` or `"owner/name"`; it is made when it is not there.
        private (`bool`, *optional*): Of a repository that is made. Labels, which come with the faces, are private
            unless this is `False`; models are as the account has it.
        revision (`str`, *optional*): Branch, which is made when it is not there.
        commit_message (`str`, *optional*): In place of ours.
        token (`str`, *optional*): In place of the one that `hf auth login` or HF_TOKEN has left.
        dry_run (`bool`, *optional*, defaults to `False`): Checks the folder, and writes and uploads nothing.
        results, notes: Are added to the record of the folder and to its card first, as [`add_results`] does.

    Returns:
        The address of the commit (`None` in a dry run), the files that were (or would be) written, and those that were
        (or would be) uploaded.

    Raises:
        HubError: The folder can't be pushed, or the Hub says no.
    """
    folder = Path(folder)
    kind = check_folder(folder)
    results, notes = list(results), list(notes)
    facts = with_results(folder, results, notes) if results or notes else None
    parts = complete_folder(folder, kind, repo_id, facts)
    beside = component_files(folder) if kind == "diffiqa" else {}
    own = {path.relative_to(folder).as_posix() for path in pushed_files(folder)}
    uploaded = sorted(own | {*parts, *beside})
    if dry_run:
        return None, list(parts), uploaded
    token = check_login(token)
    dataset = kind == "quality_labels"
    api = HfApi(token=token, library_name="diffiqa_hf", library_version=__version__)
    repo_type = "dataset" if dataset else "model"
    message = commit_message or f"{TEMPLATES[kind]}, by diffiqa_hf {__version__}"
    try:
        asked = True if dataset and private is None else private
        repo_id = api.create_repo(repo_id, private=asked, exist_ok=True, repo_type=repo_type).repo_id
        if private and not api.repo_info(repo_id, repo_type=repo_type).private:
            raise HubError(f"{repo_id} is there already, and public: nothing is uploaded to it as private")
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True, repo_type=repo_type)
        # Once more with the owner in it, which the Hub has told us.
        parts = complete_folder(folder, kind, repo_id, facts)
        for name, text in parts.items():
            write_text(folder / name, text)
        beside |= _merged_card(api, folder, repo_id, revision, repo_type)
        common = {"repo_id": repo_id, "revision": revision, "repo_type": repo_type, "commit_message": message}
        operations = [
            CommitOperationAdd(name, beside[name].encode() if name in beside else str(folder / name))
            for name in (beside if dataset else uploaded)
        ]
        if dataset:  # may be large, and is worth having in parts
            commit = api.upload_folder(folder_path=folder, ignore_patterns=[*NOT_PUSHED, *beside], **common)
        if operations:
            commit = api.create_commit(operations=operations, **common)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, ValueError) as error:
        raise HubError(f"cannot push to {repo_id}: {hub_reason(error)}") from error
    return str(commit.commit_url), list(parts), uploaded


def _merged_card(api: HfApi, folder: Path, repo_id: str, revision: str | None, repo_type: str) -> dict[str, str]:
    """The card by its name, where somebody has changed the one on the Hub: what is theirs stays."""
    try:
        there = api.hf_hub_download(repo_id, CARD_FILE, revision=revision, repo_type=repo_type)
    except (EntryNotFoundError, RevisionNotFoundError):  # none yet, or a repository without a commit
        return {}
    new = (folder / CARD_FILE).read_text(encoding="utf-8")
    try:
        merged = merge_cards(Path(there).read_text(encoding="utf-8"), new)
    except (yaml.YAMLError, ValueError) as error:
        raise HubError(
            f"the card of {repo_id} can't be read, so that it can't be kept: {first_line(error)}"
        ) from error
    if merged == new:
        return {}
    logger.info(f"what was changed in the card of {repo_id} stays")
    return {CARD_FILE: merged}


def check_login(token: str | None = None) -> str:
    """
    The token that is given, or the one of this machine.

    Raises:
        HubError: There is none, or the Hub can't be reached because this process is offline.
    """
    if hub_constants.HF_HUB_OFFLINE:
        raise HubError("the Hub is switched off here (HF_HUB_OFFLINE)")
    token = token or get_token()
    if token is None:
        raise HubError("no token for the Hub: `hf auth login`, or set HF_TOKEN")
    return token


def hub_reason(error: BaseException) -> str:
    """In one line why the Hub, or its client, has said no; the first line of any other error."""
    if isinstance(error, GatedRepoError):
        return "the repository is gated: ask for access on its page, and log in"
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision"
    if isinstance(error, RepositoryNotFoundError):
        hint = "" if get_token() else ", or it is private and there is no token: `hf auth login`, or set HF_TOKEN"
        return (
            f"there is no such repository for this token{hint}" if not hint else f"there is no such repository{hint}"
        )
    if isinstance(error, OfflineModeIsEnabled):
        return "the Hub is switched off here (HF_HUB_OFFLINE)"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        said = error.server_message or first_line(error)
        if status == 401:
            return f"the Hub does not take the token ({said})"
        return f"the Hub says {status}: {said}"
    return first_line(error)


__all__ = ["check_login", "complete_folder", "hub_reason", "push_folder"]
