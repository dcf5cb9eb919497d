"""Synthetic patients as FHIR R4B bundles: a Patient and its Observations (https://hl7.org/fhir/R4B/observation.html).

LOINC codes where there is one for what is measured; every other code is this project's own, and says so. A synthetic
week has weekdays and no date, so an observation's time is a FHIR Timing with a day of the week.
"""

import uuid
from typing import Any

import numpy as np

from core.cohort import RISK_CLASSES, Cohort
from core.signals import WEEKDAYS, Signal
from pipeline.exports.tables import person_ids

LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
LOCAL = "urn:uuid:8f4b4a52-27b5-4c2e-9e07-3c6f2a1d7b90"  # the code system of this project's own names
LOCAL_NOTE = "local code of Manō, in no public terminology"
# HL7's mark of records that are of no real person.
TEST_DATA = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HTEST",
    "display": "test health data",
}
# (name, unit) of a signal or profile column -> LOINC code, its name, the UCUM unit, the category.
CODES: dict[tuple[str, str], tuple[str, str, str, str]] = {
    ("heart_rate", "bpm"): ("8867-4", "Heart rate", "/min", "vital-signs"),
    ("sleep_duration", "h"): ("93832-4", "Sleep duration", "h", "activity"),
    ("age", ""): ("30525-0", "Age", "a", "survey"),
    ("bmi", ""): ("39156-5", "Body mass index (BMI) [Ratio]", "kg/m2", "vital-signs"),
}  # fmt: skip
GENDERS = {"female": "female", "male": "male", "other": "other"}
NAMESPACE = uuid.UUID("5d0c4d5e-6a55-4d5b-a6f1-1f0a0c1b9d11")


def bundles(cohort: Cohort, run: str, count: int, warning: str) -> list[str]:
    """The first ``count`` persons as JSON of validated bundles; the same run gives the same text."""
    from fhir.resources.R4B.bundle import Bundle

    names = person_ids(cohort)
    return [
        Bundle.model_validate(_bundle(cohort, row, f"{run}/{names[row]}", str(names[row]), warning)).model_dump_json(
            exclude_none=True, indent=1
        )
        for row in range(min(count, len(cohort)))
    ]


def _bundle(cohort: Cohort, row: int, key: str, name: str, warning: str) -> dict[str, Any]:
    """A collection of one patient and what was observed of them."""
    patient_url = _url(key)
    profile = cohort.profiles.iloc[row]
    subject = {"reference": patient_url}
    found = [
        _profile_observation(str(column), value, subject) for column, value in profile.items() if column != "gender"
    ]
    if cohort.risk is not None:
        label = RISK_CLASSES[int(cohort.risk[row])]
        found.append(_observation(("risk_class", ""), subject, {"valueString": label}))
    for k, signal in enumerate(cohort.signals):
        for day in np.flatnonzero(cohort.mask[row, :, k]):
            found.append(_day_observation(signal, float(cohort.rhythms[row, day, k]), int(day), subject))
    patient = {
        "resourceType": "Patient",
        "meta": {"security": [TEST_DATA]},
        "text": {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">Synthetic person. {warning}</div>'},
        "identifier": [{"system": LOCAL, "value": name}],
        "gender": GENDERS.get(str(profile.get("gender", "")).lower(), "unknown"),
    }  # fmt: skip
    entries = [{"fullUrl": patient_url, "resource": patient}]
    entries += [{"fullUrl": _url(f"{key}/{index}"), "resource": each} for index, each in enumerate(found)]
    return {"resourceType": "Bundle", "type": "collection", "meta": {"security": [TEST_DATA]}, "entry": entries}


def _url(key: str) -> str:
    return f"urn:uuid:{uuid.uuid5(NAMESPACE, key)}"


def _observation(what: tuple[str, str], subject: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
    """One observation of ``(name, unit)``, coded by LOINC where it is known, else by the project's own name."""
    name, _ = what
    if what in CODES:
        code, display, _, category = CODES[what]
        coded = {"coding": [{"system": LOINC, "code": code, "display": display}], "text": name.replace("_", " ")}
    else:
        category = "survey"
        coded = {"coding": [{"system": LOCAL, "code": name, "display": LOCAL_NOTE}], "text": name.replace("_", " ")}
    return {
        "resourceType": "Observation",
        "status": "final",
        "meta": {"security": [TEST_DATA]},
        "category": [{"coding": [{"system": CATEGORY, "code": category}]}],
        "code": coded,
        "subject": subject,
        **value,
    }


def _profile_observation(column: str, value: object, subject: dict[str, str]) -> dict[str, Any]:
    if isinstance(value, (int, float, np.number)) and not isinstance(value, bool):
        return _observation((column, ""), subject, {"valueQuantity": _quantity((column, ""), float(value))})
    return _observation((column, ""), subject, {"valueString": str(value)})


def _day_observation(signal: Signal, value: float, day: int, subject: dict[str, str]) -> dict[str, Any]:
    what = (signal.name, signal.unit)
    timing = {"repeat": {"dayOfWeek": [WEEKDAYS[day].lower()]}}
    return _observation(what, subject, {"effectiveTiming": timing, "valueQuantity": _quantity(what, round(value, 2))})


def _quantity(what: tuple[str, str], value: float) -> dict[str, Any]:
    """A value; in UCUM where the unit is known, else with the unit in words."""
    if what in CODES:
        return {"value": value, "unit": CODES[what][2], "system": UCUM, "code": CODES[what][2]}
    return {"value": value} | ({"unit": what[1]} if what[1] else {})
