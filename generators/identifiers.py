"""Direct identifiers: columns that say who somebody is, told by their name or by how their values look.

What is looked for: names, e-mail, telephone, postal and network addresses, national and record numbers, dates of birth
(after the identifiers that 45 CFR 164.514(b)(2) lists). A year of birth, a town or a rare occupation is none of them,
though several together may single somebody out.
"""

import re

import pandas as pd

_NAMES = {  # what a column may be called, in full, once words of _OF stand no more before it
    "a person's name": "name first_name firstname last_name lastname surname full_name fullname given_name family_name "
    "forename middle_name maiden_name initials vorname nachname nom prenom nombre apellido",
    "an e-mail address": "email e_mail mail email_address e_mail_address mail_address",
    "a telephone number": "phone phone_number phone_no telephone telephone_number mobile mobile_number mobile_phone "
    "cell_phone cellphone tel fax fax_number telefon telefonnummer handy",
    "an address": "address street street_address postal_address house_number zip zip_code zipcode postcode post_code "
    "postal_code plz adresse strasse ip ip_address mac_address gps latitude longitude",
    "a national or record number": "ssn social_security social_security_number nino national_id national_id_number "
    "national_insurance_number nhs nhs_number passport passport_number passport_no id_card driver_license drivers_license "
    "driving_licence licence_plate license_plate mrn medical_record_number insurance_number health_insurance_number tax_id "
    "tin cpr bsn personnummer aadhaar curp iban",
    "a date of birth": "dob birth_date birthdate date_of_birth birthday birth_day geburtsdatum geburtstag",
}
_OF = re.compile(r"^(patients?|persons?|participants?|subjects?|users?|clients?|contact|emergency|home|work|private)_")
_KINDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}

_DATE = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}"
_VALUES = {
    "an e-mail address": r"[^@\s]+@[^@\s]+\.[^@\s.]{2,}",
    "a telephone number": r"(\+|00)\d[\d\s().\-/]{6,18}|\(?\d{3}\)?[\s.\-]\d{3}[\s.\-]\d{4}|0\d{1,4}[\s/]\d{3,5}[\s\-]?\d{2,6}",
    "an address": r"(\d{1,3}\.){3}\d{1,3}|\d+\s+(\w+\s)+(street|st|road|rd|avenue|ave|lane|ln|drive|dr|blvd)\.?|"
    r"\w[\w\s]*(straße|strasse|str\.|weg|platz)\s*\d+\w?|\d+,?\s+(rue|avenue|boulevard)\s.+",
    "a national or record number": r"\d{3}-\d{2}-\d{4}|[A-Z]{2}\s?\d{2}\s?\d{2}\s?\d{2}\s?[A-D]|\d{6}[-+]\d{4}|"
    r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]|[A-Z]{2}\d{2}(\s?[A-Z0-9]{4}){3,7}\s?[A-Z0-9]{0,3}",
}
_PATTERNS = {kind: re.compile(pattern, re.IGNORECASE) for kind, pattern in _VALUES.items()}
_FULL_NAME = re.compile(r"[A-Z][a-zà-ÿ'’\-]+,?( [A-Z]\.)? [A-Z][a-zà-ÿ'’\-]+")
_MOST = 0.5  # share of a column's different values that must look so
_SAMPLE = 2000  # different values looked at
_MANY = 20  # different full names from which they are no categories ("Sleep Apnea")
_LIFETIMES = 15  # years that dates of birth span; days of enrolment lie closer


def kind_of_name(column: str) -> str | None:
    """Which identifier a column of this name holds, or None. Case, spaces and camel case do not matter."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", column.strip())
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return _KINDS.get(name) or _KINDS.get(_OF.sub("", name))


def kind_of_values(values: pd.Series) -> str | None:
    """Which identifier most of the different texts of a column look like, or None; numbers look like none."""
    if pd.api.types.is_numeric_dtype(values):
        return None
    texts = pd.Series(values.dropna().astype(str).str.strip().unique()[:_SAMPLE], dtype=str)
    if texts.empty:
        return None
    for kind, pattern in _PATTERNS.items():
        if texts.str.fullmatch(pattern).mean() > _MOST:
            return kind
    dates = texts[texts.str.fullmatch(_DATE)]
    years = dates.str.extract(r"(\d{4})")[0].astype(float)
    if len(dates) > _MOST * len(texts) and years.max() - years.min() > _LIFETIMES:
        return "a date of birth"
    named = len(texts) >= _MANY and len(texts) > _MOST * values.notna().sum()
    return "a person's name" if named and texts.str.fullmatch(_FULL_NAME).mean() > _MOST else None


def looks_like_one(text: str) -> bool:
    """Whether a single cell looks like an identifier, and must not be repeated in a message."""
    return any(pattern.fullmatch(text.strip()) for pattern in _PATTERNS.values()) or bool(_FULL_NAME.fullmatch(text))


def direct_identifiers(profiles: pd.DataFrame) -> dict[str, str]:
    """Column -> which identifier it holds, for the columns that seem to hold one."""
    found = {str(name): kind_of_name(str(name)) or kind_of_values(profiles[name]) for name in profiles}
    return {name: kind for name, kind in found.items() if kind}
