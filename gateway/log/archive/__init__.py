"""The archive: old records of the streams as Parquet files, by kind and day, on a local path or any fsspec URL.

    kind=interactions/date=2027-03-01/part-<first entry>-<last entry>-<digest>.parquet

`archiver` moves entries there and trims the streams; `reader` reads them back; `runner` has one gateway of all do it,
in a process of its own. Nothing here imports pyarrow (0.3 s, 70 MiB) but `parquet`, and of the gateway's process only
looking for votes that are archived needs that.
"""
