"""What votes are worth: a pure library over records of the log. `assess.assess` is its door; each idea has a file.

ballots.py      votes as it sees them        history.py     a voter's reliability, by agreement with others
bursts.py       too many in a short time     consensus.py   votes against what others say (weight only)
strangers.py    votes on others' answers     caps.py        most weight of one user or key in a day
phrases.py      campaigns for a phrase       decisions.py   the operator's word
minhash.py, tails.py                         what they stand on
"""
