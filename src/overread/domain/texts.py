"""Sentences that must read the same wherever they stand: pages, reports, exported objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DISCLAIMER = (
    "AI assistance is not diagnostic. Final interpretation by a qualified radiologist required. "
    "Not a substitute for clinical judgment."
)

NO_FINDING = "No finding among those assessed."
"""Never "normal": the product only knows what its installed models look for."""


@dataclass(frozen=True, kw_only=True)
class Notice:
    """A text for patients: sections of (heading, paragraph)."""

    title: str
    sections: tuple[tuple[str, str], ...]


PATIENT_NOTICE: Final[Mapping[str, Notice]] = {
    "en": Notice(
        title="How AI is used on your images",
        sections=(
            (
                "What happens",
                "A computer program (artificial intelligence, AI) may look at your medical images before the "
                "radiologist does. It marks places that could matter, may measure them, judges the quality of the "
                "images, and may move urgent examinations to the front of the list.",
            ),
            (
                "Who decides",
                "A radiologist looks at your images and decides. The program decides nothing. It can be wrong: it can "
                "miss something, and it can mark something that is harmless.",
            ),
            (
                "Which data",
                "The program uses your images and what is stored with them, such as your name, date of birth and "
                "patient number. It runs in your hospital's own system. Images are not sent to the program's makers.",
            ),
            (
                "Who sees it",
                "People who treat you, and those who run the system. Each access to your images and results is put on "
                "record. You may ask the hospital for a report of who saw them.",
            ),
            (
                "You may say no",
                "You may object at any time, without giving a reason and without any disadvantage: tell the staff. "
                "From then on the program does not look at your images, and radiologists read them alone. Results from "
                "before stay in your record. You may take your objection back at any time.",
            ),
            (
                "Your other rights",
                "You may ask which of your data are stored, have errors put right, see what the program found, and "
                "complain to the hospital's data protection officer or the supervisory authority.",
            ),
        ),
    ),
    "de": Notice(
        title="Wie KI bei Ihren Bildern eingesetzt wird",
        sections=(
            (
                "Was geschieht",
                "Ein Computerprogramm (künstliche Intelligenz, KI) kann Ihre medizinischen Bilder ansehen, bevor eine "
                "Radiologin oder ein Radiologe es tut. Es markiert Stellen, die wichtig sein könnten, misst sie "
                "gegebenenfalls aus, beurteilt die Qualität der Bilder und kann dringende Untersuchungen in der Liste "
                "nach vorne stellen.",
            ),
            (
                "Wer entscheidet",
                "Eine Radiologin oder ein Radiologe sieht Ihre Bilder an und entscheidet. Das Programm entscheidet "
                "nichts. Es kann sich irren: Es kann etwas übersehen und etwas Harmloses markieren.",
            ),
            (
                "Welche Daten",
                "Das Programm nutzt Ihre Bilder und was mit ihnen gespeichert ist, etwa Name, Geburtsdatum und "
                "Patientennummer. Es läuft im System Ihres Krankenhauses. Bilder werden nicht an die Hersteller des "
                "Programms geschickt.",
            ),
            (
                "Wer es sieht",
                "Wer Sie behandelt, und wer das System betreibt. Jeder Zugriff auf Ihre Bilder und Ergebnisse wird "
                "protokolliert. Sie können vom Krankenhaus eine Auskunft verlangen, wer sie gesehen hat.",
            ),
            (
                "Sie können Nein sagen",
                "Sie können jederzeit widersprechen, ohne Begründung und ohne Nachteil: Sagen Sie es dem Personal. Von "
                "da an sieht das Programm Ihre Bilder nicht mehr an, und Radiologinnen und Radiologen befunden sie "
                "allein. Frühere Ergebnisse bleiben in Ihrer Akte. Sie können den Widerspruch jederzeit zurücknehmen.",
            ),
            (
                "Ihre weiteren Rechte",
                "Sie können fragen, welche Ihrer Daten gespeichert sind, Fehler berichtigen lassen, ansehen, was das "
                "Programm gefunden hat, und sich bei der oder dem Datenschutzbeauftragten des Krankenhauses oder bei "
                "der Aufsichtsbehörde beschweren.",
            ),
        ),
    ),
}
"""The AI notice for patients, by language. A hospital adapts it: docs/explanation/privacy.md."""
