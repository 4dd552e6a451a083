"""Write the tables of our pages that follow from code and measured figures: `python docs/make_tables.py`.

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`. `tests/docs/test_tables.py` fails
while one is old.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import typer.main

from overread.cli import app
from overread.config import Settings
from overread.domain import catalogue
from overread.domain.evidence import EvidenceBar
from overread.inference.card import Card, parse

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT / "models"
REPORT = ROOT / "training" / "chest_xray" / "report.json"
BAR = EvidenceBar()

#: What each setting does. A setting that is not here has no place in the reference, and the test says so.
SETTINGS = {
    "state": "Folder of all that the installation keeps: database, objects, keys, logs. Made with mode 0700.",
    "database_url": "An external PostgreSQL, as a URL or libpq string of an owner that may create roles and schemas. "
    "Empty: the embedded one.",
    "database_direct_url": "The same server without pgbouncer, for LISTEN and migrations. Only behind a pooler in "
    "transaction mode: where it is set, no statement is prepared at `OVERREAD_DATABASE_URL`.",
    "objects_url": "Object store: a folder, or `s3://bucket/prefix` (also `gs://`, `az://`). Empty: `objects` in the "
    "state folder. Credentials come from the usual `AWS_*` variables.",
    "master_key": "Master key that wraps the tenants' data keys: 64 hexadecimal digits or `aws-kms:KEY`; several by commas, "
    "the first wraps. See [Encryption](../explanation/encryption.md#keys).",
    "master_key_file": "Or the file (0600) that holds it; empty: `master.key` in the state folder, made at the first start.",
    "models": "The site's own model packages, `NAME/VERSION/` or ZIP files; empty: `models` in the state folder.",
    "http_host": "Address of pages and API. The default is this machine only.",
    "http_port": "Port of pages and API.",
    "http_tls_certificate": "TLS 1.3 for pages and API: certificate chain (PEM). The port then speaks nothing else.",
    "http_tls_key": "The key of that certificate.",
    "https": "Set behind a proxy that ends TLS: the session cookie is then sent over https only.",
    "dicom_host": "Address of the DICOM receiver. The default is this machine only; `0.0.0.0` listens on all.",
    "dicom_port": "Port of the DICOM receiver.",
    "receivers": "Receiver processes that share the DICOM port.",
    "dicom_maximum_pdu": "Bytes of a P-DATA-TF that senders may use; 0: any.",
    "dicom_tls_certificate": "TLS 1.3 for DICOM: the receiver's certificate (PEM).",
    "dicom_tls_key": "The key of that certificate.",
    "dicom_tls_senders": "Certificates (PEM) that senders must show; the sha256 of its certificate names a sender.",
    "concurrency": "Jobs that one worker process runs at a time.",
    "overload_jobs": "Waiting jobs beyond which the installation is overloaded: pages, log and `/readyz` say so; critical and "
    "urgent studies come first as ever, routine ones take longer. 0: never.",
    "low_disk_gib": "GiB of free disk below which pages, `/readyz` and `overread doctor` say that the disk is almost full.",
    "model_threads": "Threads that a model may use; 0: half of the cores.",
    "model_memory_mib": "MiB of address space that a model's process may take.",
    "model_timeout_s": "Seconds that one model run may take.",
    "audit_syslog": "Where the audit trail is forwarded: `tls://HOST:PORT` of a syslog server (RFC 5425). Empty: nowhere.",
    "audit_syslog_ca": "Certificates (PEM) by which that server is known; empty: those of the system.",
    "audit_syslog_certificate": "Our certificate (PEM), if that server wants to see one.",
    "audit_syslog_key": "The key of that certificate.",
    "audit_years": "Years that the audit trail is kept; `overread audit expire` drops older ones. At least 7.",
    "upload_limit_mib": "MiB of one upload, and of what an archive in it may unpack to.",
    "token_seconds": "Seconds of validity of a log-in.",
    "idle_minutes": "Minutes after which a page's session ends that nobody uses.",
    "public_url": "Where browsers reach the pages, as `https://overread.hospital.example`; empty: what the request says. "
    "An identity provider sends people back there.",
    "api_processes": "Web server processes that share the port (`overread serve --api-processes` overrides it).",
    "redis_url": "Redis (`redis://` or `rediss://`) that counts requests for all web server processes together. "
    "Empty: each counts for itself.",
    "uid_root": "Root of the UIDs of what we write as DICOM.",
    "quiet_factor": "Multiplies the quiet periods after which a study counts as complete (CT 30 s, MR 120 s).",
    "log_level": "`DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`.",
}


def shipped(name: str) -> Card | None:
    """The newest card of a package in `models/`; None if there is none."""
    cards = [parse(path.read_text(encoding="utf-8")) for path in MODELS.glob(f"{name}/*/card.toml")]
    return max(cards, key=lambda card: card.sort_key, default=None)


def trained_labels() -> list[dict[str, Any]]:
    """What the training measured of each finding, output or not."""
    return list(json.loads(REPORT.read_text(encoding="utf-8"))["labels"]) if REPORT.exists() else []


# --- README ----------------------------------------------------------------------------------------------------------


def assessed() -> str:
    """Each finding type of chest radiographs: by what it is looked for, how well, and what it may do."""
    card = shipped("chest_xray")
    if card is None:
        return "No model of chest radiographs is in `models/`: nothing is assessed."
    raw = {output["finding"]: output for output in card.raw["output"]}
    rows = []
    for output in card.outputs:
        e = output.evidence
        figures = raw[e.finding]
        rows.append(
            (
                catalogue.entry(e.finding).name,
                f"{e.positives} of {e.images}",
                _interval(figures["auc"]),
                f"{e.cues_auc:.2f}",
                _interval(figures.get("sensitivity_show")),
                _interval(figures.get("specificity_show")),
                "may raise urgency" if e.may_raise(BAR) else "exploratory: changes no order",
            )
        )
    first = card.outputs[0].evidence
    head = ("finding", "images with it", "AUC", "cues alone", "sensitivity", "specificity", "what it may do")
    others = [e for e in catalogue.CHEST_XRAY if e.key not in raw]
    tried = {label["finding"]: label for label in trained_labels() if not label["point"]["is_output"]}
    left_out = [
        f"{e.name} (AUC {_figure(tried[e.key]['whole']['auc'])})" for e in others if _measured(tried.get(e.key))
    ]
    never = [e.name for e in others if not _measured(tried.get(e.key))]
    text = [
        f"Frontal chest radiographs, by our model `{card.identity}` ({first.patients} patients that it never saw; "
        "95% intervals; sensitivity and specificity at the confidence from which a finding is shown):",
        "",
        *_table(head, rows),
        "",
    ]
    if left_out:
        text += [f"Trained, but too weak to be an output, so *not assessed*: {'; '.join(left_out)}.", ""]
    text += [f"In the catalogue with no model, so *not assessed*: {', '.join(never)}."]
    return "\n".join(text)


def _measured(label: dict[str, Any] | None) -> bool:
    return label is not None and label["whole"]["auc"] is not None


# --- reference -------------------------------------------------------------------------------------------------------


def settings() -> str:
    """Every setting of `config.Settings`."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "" if default in (None, "") else f"`{default}`"
        rows.append((f"`OVERREAD_{name.upper()}`", shown, SETTINGS[name]))
    return "\n".join(_table(("variable", "default", "meaning"), rows))


def commands() -> str:
    """Every command with its options, from the same place as `--help`."""
    group: Any = typer.main.get_command(app)
    parts = []
    for name, command in _leaves(group, "overread"):
        usage = " ".join([name, *(_usage(p) for p in command.params)])
        parts += [f"## {name}", "", f"`{usage}`", "", command.help.strip(), ""]
        rows = [(f"`{_names(p)}`", (p.help or "").strip(), _default(p)) for p in command.params]
        if rows:
            parts += [*_table(("argument or option", "meaning", "default"), rows), ""]
        if command.epilog:
            parts += [command.epilog.strip(), ""]
    return "\n".join(parts).rstrip()


def _leaves(group: Any, path: str) -> Iterable[tuple[str, Any]]:
    """(whole name, command), those of groups too."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _usage(parameter: Any) -> str:
    word = parameter.name.upper().replace("_", "-")
    if parameter.param_type_name == "argument":
        return word
    flag = parameter.opts[0]
    usage = flag if getattr(parameter, "is_flag", False) else f"{flag} {word}"
    return usage if parameter.required else f"[{usage}]"


def _names(parameter: Any) -> str:
    return parameter.name.upper() if parameter.param_type_name == "argument" else ", ".join(parameter.opts)


def _default(parameter: Any) -> str:
    if parameter.param_type_name == "argument" or parameter.default in (None, False):
        return ""
    return f"`{getattr(parameter.default, 'value', parameter.default)}`"


def packages() -> str:
    """The packages that ship, as their cards describe them."""
    parts = []
    for folder in sorted(path for path in MODELS.iterdir() if path.is_dir()):
        card = shipped(folder.name)
        if card is not None:
            parts += _package(card)
    return "\n".join(parts).rstrip()


def _package(card: Card) -> list[str]:
    split = card.raw["training"]["split"]
    facts = [
        ("task", f"`{card.task}`"),
        ("modality, body part, views", f"{card.modality}, {card.body_part}, {' '.join(card.views)}"),
        ("input", f"{card.input.channels} x {card.input.rows} x {card.input.columns} pixels"),
        ("trained on", str(card.trained_on)),
        ("split", f"by {split['by']}: {split['train']} training, {split['test']} test images"),
        ("licence", card.licence),
        ("sha256 of model.onnx", f"`{card.identity.sha256}`"),
    ]
    data = [(d["name"], d["patients"], d["images"], d["terms"]) for d in card.raw["training"]["data"]]
    head = ("output", "positive", "AUC", "cues alone", "sensitivity", "specificity", "to show", "to raise")
    outputs = [
        (
            f"`{o.evidence.finding}`",
            f"{o.evidence.positives} of {o.evidence.images}",
            _interval(_three(o.evidence.auc)),
            f"{o.evidence.cues_auc:.2f}",
            _interval(_three(o.evidence.sensitivity)),
            _interval(_three(o.evidence.specificity)),
            f"{o.evidence.threshold_show:.3f}",
            f"{o.evidence.threshold_raise:.3f}",
        )
        for o in card.outputs
    ]
    return [
        f"### {card.identity}",
        "",
        card.statement,
        "",
        *_table(("", ""), facts),
        "",
        *_table(("data", "patients", "images", "terms"), data),
        "",
        "Sensitivity and specificity at the threshold to raise urgency; 95% intervals.",
        "",
        *_table(head, outputs),
        "",
        "Must not be used for:",
        "",
        *(f"- {use}" for use in card.must_not_be_used_for),
        "",
    ]


# --- words -----------------------------------------------------------------------------------------------------------


def _three(interval: Any) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def _interval(three: Sequence[float] | None) -> str:
    return "–" if three is None else f"{three[0]:.2f} [{three[1]:.2f}–{three[2]:.2f}]"


def _figure(figure: dict[str, float]) -> str:
    return _interval((figure["value"], figure["low"], figure["high"]))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in (head, ["---"] * len(head), *rows)]


#: Page, name of the table, what makes it.
TABLES: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("README.md", "assessed", assessed),
    ("docs/reference/configuration.md", "settings", settings),
    ("docs/reference/cli.md", "commands", commands),
    ("docs/reference/model-card.md", "packages", packages),
)


def renewed(page: str, name: str, make: Callable[[], str]) -> str:
    """The page's text with the table as it should be. Raises `ValueError` if its place is missing."""
    text = (ROOT / page).read_text(encoding="utf-8")
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(place.findall(text)) != 1:
        raise ValueError(f"{page} has not exactly one place for the table {name}")
    return place.sub(lambda _: f"{begin}\n\n{make()}\n\n{end}", text)


def main() -> None:
    """Write every table."""
    for page, name, make in TABLES:
        (ROOT / page).write_text(renewed(page, name, make), encoding="utf-8")


if __name__ == "__main__":
    main()
