"""A model card as pictures and as one HTML page that needs nothing from elsewhere."""

import base64
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from gateway.decoding.card import ModelCard

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .2rem .8rem .2rem 0; text-align: right; }
th { border-bottom: 1px solid #888; } td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; } pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; }
""".strip()


def draw_card(card: ModelCard) -> bytes:
    """All of it in one picture, PNG."""
    figure = Figure(figsize=(16.5, 9), layout="constrained")
    axes: Any = figure.subplots(2, 3).flat
    for draw in (_law, _curve, _cost, _partial, _length, _guard):
        draw(card, next(axes))
    figure.suptitle(
        f"{card.model}: {card.policy} with {card.reward_model}, {card.answers} answers to {card.prompts} prompts"
    )
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    return picture.getvalue()


def write_page(card: ModelCard, picture: bytes, path: Path) -> None:
    """The tables, the pictures and the recommendations, in one file."""
    made = datetime.fromtimestamp(card.created, UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [
        f"<h1>{escape(card.model)}</h1>",
        f"<p>{escape(card.policy)} with {escape(card.reward_model)}: {card.answers} answers to {card.prompts} prompts, "
        f"temperature {'the model’s own' if card.temperature is None else format(card.temperature, 'g')}, at most "
        f"{card.max_tokens} tokens, {card.mean_tokens:.1f} on average. Measured {made}. Rewards are raw; intervals are "
        "95 %, of resampled prompts.</p>",
        f'<img alt="The figures below, drawn" src="data:image/png;base64,{base64.b64encode(picture).decode()}">',
        "<h2>For a profile</h2>",
        *(_recommended(one.target, one.settings, one.because) for one in card.recommendations),
        "<h2>Best of n</h2>",
        _table(CURVE_COLUMNS, curve_rows(card)),
        f"<p>Deviation of the reward: {card.deviation:.3f} within a prompt, {card.law.deviation:.3f} over all answers, "
        f"whose mean is {card.law.mean:.3f}.</p>",
    ]
    if card.partial:
        parts += ["<h2>What a beginning's reward foretells</h2>", _table(PARTIAL_COLUMNS, partial_rows(card))]
    if card.guard:
        parts += ["<h2>The guard on these answers</h2>", _table(GUARD_COLUMNS, guard_rows(card))]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(card.model)}: model card</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )
    path.write_text(page, encoding="utf-8")


CURVE_COLUMNS = ("n", "reward", "95 %", "gain", "95 %", "tokens", "ms")
PARTIAL_COLUMNS = ("tokens", "correlation with the final reward", "95 %", "answers")
GUARD_COLUMNS = ("category", "flagged", "median", "90 % below", "99 % below", "most")


def curve_rows(card: ModelCard) -> list[tuple[str, ...]]:
    first = card.curve[0].reward
    return [
        (
            str(one.n),
            f"{one.reward:.3f}",
            f"{one.low:.3f} to {one.high:.3f}",
            f"{one.reward - first:.3f}",
            f"{one.gain_low:.3f} to {one.gain_high:.3f}",
            f"{one.tokens:.0f}",
            "" if one.latency_ms is None else f"{one.latency_ms:.0f}",
        )
        for one in card.curve
    ]


def partial_rows(card: ModelCard) -> list[tuple[str, ...]]:
    return [
        (str(one.tokens), f"{one.correlation:.3f}", f"{one.low:.3f} to {one.high:.3f}", str(one.answers))
        for one in card.partial
    ]


def guard_rows(card: ModelCard) -> list[tuple[str, ...]]:
    return [
        (name, f"{law.flagged:.1%}", *(f"{_at(law.quantiles, rank):.4f}" for rank in (0.5, 0.9, 0.99, 1.0)))
        for name, law in card.guard.items()
    ]


def as_settings(settings: dict[str, Any]) -> str:
    """As they stand in a profile of the configuration file."""
    return yaml.safe_dump(settings, sort_keys=False, default_flow_style=None)


def _recommended(target: str, settings: dict[str, Any], because: str) -> str:
    shown = f"<pre>{escape(as_settings(settings))}</pre>" if settings else ""
    return f"<h3>{escape(target)}</h3>\n{shown}<p>{escape(because)}</p>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(one)}</td>" for one in row) + "</tr>" for row in rows)
    return f"<table>\n<tr>{head}</tr>\n{body}\n</table>"


def _law(card: ModelCard, axes: Any) -> None:
    ranks = [index / (len(card.law.quantiles) - 1) for index in range(len(card.law.quantiles))]
    axes.plot(card.law.quantiles, ranks)
    axes.set(xlabel="reward", ylabel="rank under the policy", title="one answer's reward")


def _curve(card: ModelCard, axes: Any) -> None:
    n = [one.n for one in card.curve]
    axes.fill_between(n, [one.gain_low for one in card.curve], [one.gain_high for one in card.curve], alpha=0.25)
    axes.plot(n, [one.reward - card.curve[0].reward for one in card.curve], "o-")
    axes.set_xscale("log", base=2)
    axes.set_xticks(n, labels=[str(one) for one in n])
    axes.set(xlabel="n", ylabel="reward over one answer's", title="gain of the best of n, 95 % interval")


def _cost(card: ModelCard, axes: Any) -> None:
    axes.plot([one.n for one in card.curve], [one.tokens for one in card.curve], "o-")
    axes.set(xlabel="n", ylabel="sampled tokens (solid)", title="cost", ylim=(0, None))
    timed = [(one.n, one.latency_ms) for one in card.curve if one.latency_ms is not None]
    if timed:
        other = axes.twinx()
        other.plot([n for n, _ in timed], [ms for _, ms in timed], "s:", color="tab:orange")
        other.set(ylabel="median milliseconds (dotted)", ylim=(0, None))


def _partial(card: ModelCard, axes: Any) -> None:
    axes.set(xlabel="tokens", ylabel="correlation", ylim=(-0.1, 1.02), title="reward of a beginning with the final one")
    if not card.partial:
        _nothing(axes)
        return
    tokens = [one.tokens for one in card.partial]
    axes.fill_between(tokens, [one.low for one in card.partial], [one.high for one in card.partial], alpha=0.25)
    axes.plot(tokens, [one.correlation for one in card.partial], "o-")
    axes.axvline(card.mean_tokens, color="grey", linewidth=0.8, linestyle=":")


def _length(card: ModelCard, axes: Any) -> None:
    axes.set(xlabel="tokens", ylabel="reward", title="reward by length (LOWESS)")
    if not card.length:
        _nothing(axes)
        return
    axes.plot([one.tokens for one in card.length], [one.reward for one in card.length])


def _guard(card: ModelCard, axes: Any) -> None:
    axes.set(xlabel="probability", ylabel="share of answers at or over it", title="guard")
    if not card.guard:
        _nothing(axes)
        return
    for name, law in card.guard.items():
        shares = [1 - index / (len(law.quantiles) - 1) for index in range(len(law.quantiles))]
        axes.plot(law.quantiles, shares, label=name)
    axes.set_yscale("symlog", linthresh=0.01)
    axes.legend(loc="upper right", fontsize="small")


def _nothing(axes: Any) -> None:
    axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color="grey")


def _at(quantiles: Sequence[float], rank: float) -> float:
    return quantiles[round(rank * (len(quantiles) - 1))]
