"""What the log keeps of a request, and what it takes out of it before a byte of it is written.

policy.py   what is kept, of whom: sampling, prompts, media, training scope; by configuration and tenant
treatment.py one record made ready for the journal: what is not kept goes, the rest is redacted
media.py    images, audio and files as markers;  identity.py   the user as a keyed hash alone
redactor.py texts redacted, to their last fixed point;  texts.py   every text of a record, and what hangs on it
kinds.py    what is looked for: RE2 patterns (linear time), each with a check;  numbers.py, phones.py   the checks
plugins.py  redactors of others, and Presidio
"""
