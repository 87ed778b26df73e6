"""Erasing a person: out of streams, journals, archive, votes and caches, and out of Redis's files.

    orders    what is to be erased, and the legal holds that forbid it (the words; pure)
    judge     whether a record is among it (pure)
    ledger    where orders and holds are kept: in Redis and as files, so that a restore of either does not lose them
    follower  in each gateway: its own journal, and what it has in memory
    erasing   one order from its beginning to its end: streams (`entries`), keys (`caches`), `archived`, `compacting`
    runner    in each gateway: has one process of all carry out what is ordered or came back (`__main__`)

`orders.new_order` and `ledger.Ledger.place` are all that an order takes: gateways do the rest within a minute.
`erasing.carry_out` does it at once. What was erased stays known by its ids (`ledger.Ledger.erased_ids`), so that what
was derived from it can be marked.
"""
