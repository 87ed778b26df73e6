"""What makes a row of digits a payment card, an account number or an address of the internet."""

import ipaddress
import re

# Lengths of IBANs by country (ISO 13616, the SWIFT registry and countries that use it unregistered).
IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29,
    "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29,
    "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28,
    "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28,
    "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20,
    "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25,
    "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27,
    "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip

# Who issues cards: how their numbers begin, and how long they are.
_ISSUED = re.compile(
    rb"4(?:\d{12}|\d{15}|\d{18})"  # Visa
    rb"|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}"  # Mastercard
    rb"|3[47]\d{13}"  # American Express
    rb"|3(?:0[0-5]|[689]\d)\d{11}(?:\d{2}|\d{5})?"  # Diners Club
    rb"|35(?:2[89]|[3-8]\d)\d{12,15}"  # JCB
    rb"|(?:62|81|82)\d{14,17}|220[0-4]\d{12,15}"  # UnionPay, RuPay, Mir
    rb"|(?:5[0678]|6[0-9])\d{11,17}"  # Discover, Maestro
)
# Twice a digit, and the digits of that added up.
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def luhn(digits: bytes) -> bool:
    """Whether the last digit is the check digit (ISO/IEC 7812-1, annex B). digits: in ASCII."""
    total = sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_DOUBLED)) - len(digits) * ord("0")
    return total % 10 == 0


def card(digits: bytes) -> bool:
    """Whether these may be a payment card's: an issuer has such numbers, and the check digit is right."""
    return luhn(digits) and _ISSUED.fullmatch(digits) is not None


def mod97(account: str) -> int:
    """1 for an IBAN whose check digits are right (ISO 7064, MOD 97-10). account: capitals and digits, no spaces."""
    moved = account[4:] + account[:4]
    return int("".join(str(int(one, 36)) for one in moved)) % 97


def iban(account: str) -> bool:
    """Whether it is an IBAN: capitals and digits of its country's length, with the right check digits."""
    return IBAN_LENGTHS.get(account[:2]) == len(account) and account[2:4].isdecimal() and mod97(account) == 1


def internet(address: str) -> bool:
    """Whether it is an IPv4 or IPv6 address that tells of a machine: not one that is the same on all of them."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if found.is_loopback or found.is_unspecified or address == "255.255.255.255":
        return False
    if found.version == 4:
        return True
    # `a::b` is a name in many a program.
    return any(one.isdecimal() for one in address) and address.count(":") > 2
