"""The rows as TRL itself reads them, from Parquet on."""

from pathlib import Path
from typing import Any

from tests.training.data.compile_samples import ANN, BOB, compiled, interaction, joined, vote
from training.data.rows import Dataset, Rows

# ruff: noqa: PLC0415  # datasets and TRL: some seconds

MODELS = Path(__file__).parents[3] / "training" / "demo" / "models"


def rows() -> Rows:
    """Of every dataset; of those that trainers take two at least. Number 1 was disliked, so it is in no best-of-n."""
    texts = [f"Take a spoon of salt, number {number}." for number in range(3)]
    first = joined(
        interaction(1, *texts),
        vote("thumbs", True, ANN),
        vote("preference", 4, BOB, candidate=1, over=2),
        vote("correction", "Take a pinch of salt.", BOB),
    )
    second = joined(interaction(2, *texts[1:]), vote("thumbs", False, BOB), vote("correction", "Salt.", ANN))
    return compiled(first, second)


def load(dataset: Dataset, folder: Path) -> Any:
    import datasets
    import pyarrow.parquet as parquet

    from training.data.columns import halves, table_of

    made = folder / dataset
    made.mkdir()
    own, side = halves(table_of(dataset, rows().of(dataset)))
    parquet.write_table(own, made / "train-00000.parquet")
    parquet.write_table(side, made / "train-00000.side.parquet")
    # As docs/datasets.md has it: the sidecars have other columns.
    files = str(made / "train-*[0-9].parquet")
    return datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(folder / "cache"))


# What TRL passes on, to the loss or to reward functions.
EXTRA = ("margin", "reference")
COLUMNS: dict[Dataset, list[str]] = {
    "preference": ["prompt", "chosen", "rejected", "margin"],
    "unpaired": ["prompt", "completion", "label"],
    "demonstration": ["prompt", "completion"],
    "prompt": ["prompt", "reference"],
}


def test_trl_takes_the_rows_for_conversations_of_its_own_formats(tmp_path: Path) -> None:
    from transformers import AutoTokenizer
    from trl.data_utils import apply_chat_template, is_conversational

    tokenizer = AutoTokenizer.from_pretrained(MODELS / "policy")
    for dataset, columns in COLUMNS.items():
        loaded = load(dataset, tmp_path)
        assert loaded.column_names == columns
        assert loaded.num_rows == len(rows().of(dataset)) > 0
        for example in loaded:
            assert is_conversational(example)
            rendered = apply_chat_template({key: example[key] for key in columns if key not in EXTRA}, tokenizer)
            assert all(isinstance(rendered[key], str) for key in columns if key not in (*EXTRA, "label"))


def test_every_pair_has_a_margin(tmp_path: Path) -> None:
    found = load("preference", tmp_path)["margin"]
    assert sorted(set(found)) == [0.0, 1.0]
    assert found.count(0.0) > 0


def test_best_of_n_sets_keep_their_order_and_rewards(tmp_path: Path) -> None:
    [example] = load("best_of_n", tmp_path)
    assert example["rewards"] == [1.0, -1.0]
    assert [one[0]["content"][-2] for one in example["completions"]] == ["0", "2"]


def test_margins_come_through_the_reward_trainers_preparation(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from trl.trainer.reward_config import RewardConfig
    from trl.trainer.reward_trainer import RewardTrainer

    loaded = load("preference", tmp_path)
    trainer = RewardTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(MODELS / "reward"),
        args=RewardConfig(**_once(tmp_path)),
        processing_class=AutoTokenizer.from_pretrained(MODELS / "reward"),
        train_dataset=loaded,
    )
    batches = list(trainer.get_train_dataloader())
    given = sorted(margin for batch in batches for margin in batch["margin"].tolist())
    assert given == sorted(loaded["margin"])
    assert trainer.train().global_step == 1


def test_policy_trainers_take_a_step_on_the_rows(tmp_path: Path) -> None:
    from transformers import AutoTokenizer
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    policy = str(MODELS / "policy")
    kinds: dict[Dataset, tuple[Any, Any]] = {
        "preference": (DPOTrainer, DPOConfig),
        "unpaired": (KTOTrainer, KTOConfig),
        "demonstration": (SFTTrainer, SFTConfig),
    }
    for dataset, (trainer, config) in kinds.items():
        made = trainer(
            model=policy,
            args=config(**_once(tmp_path)),
            processing_class=AutoTokenizer.from_pretrained(policy),
            train_dataset=load(dataset, tmp_path),
        )
        assert made.train().global_step == 1


def _once(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "out"),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "use_cpu": True,
        "bf16": False,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "max_length": 128,
    }
