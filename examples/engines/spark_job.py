"""A job on Spark: `mapInPandas`, whose stages may be retried and run twice.

results = frame.mapInPandas(in_pandas(shard), SCHEMA)
"""

from collections.abc import Callable, Iterator

import pandas as pd

from dynamiq_async.integrations.shard import AppShard, columns_of_rows

SCHEMA = "key string, ok boolean, output string, error string, run_id string"

Frames = Iterator[pd.DataFrame]


def in_pandas(shard: AppShard) -> Callable[[Frames], Frames]:
    def work(frames: Frames) -> Frames:
        for frame in frames:
            yield pd.DataFrame(columns_of_rows(shard.work(frame)))

    return work
