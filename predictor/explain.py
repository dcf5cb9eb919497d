"""Why this risk? Attributions per day and signal, and how the score answers when a signal shifts."""

import torch
from torch import Tensor

from core.cohort import Cohort
from core.protocols import risk_score
from core.signals import WEEKDAYS
from predictor.dual_lstm import BATCH, DualLSTMRisk


def integrated_gradients(
    model: DualLSTMRisk, features: Tensor, week: Tensor, mask: Tensor | None = None, steps: int = 32
) -> tuple[Tensor, Tensor]:
    """What each profile feature ``[B, P]`` and each day and signal ``[B, 7, C]`` adds to the risk score.

    Gradients of the score are averaged (midpoint rule, ``steps`` points) along the straight line from an
    all-zero profile encoding (numeric columns at their mean, no category chosen) in an average week to this person,
    times the distance (Sundararajan et al. 2017, arXiv 1703.01365). Both together sum to the score minus that origin's.
    """
    origin = torch.tensor(model.scaler.mean, dtype=week.dtype, device=week.device).expand_as(week)
    by_feature, by_day = torch.zeros_like(features), torch.zeros_like(week)
    for i in range(steps):
        a = (i + 0.5) / steps
        f = (a * features).detach().requires_grad_()
        w = torch.lerp(origin, week, a).detach().requires_grad_()
        gradients = torch.autograd.grad(risk_score(model.probabilities(f, w, mask)).sum(), (f, w))
        by_feature, by_day = by_feature + gradients[0] / steps, by_day + gradients[1] / steps
    return by_feature * features, by_day * (week - origin)


def top_drivers(model: DualLSTMRisk, features: Tensor, week: Tensor, n: int) -> list[tuple[str, float]]:
    """The ``n`` signals and profile columns that move one person's risk score most, with what each adds to it.

    ``features`` ``[P]`` and ``week`` ``[7, C]`` (physical units) as in ``integrated_gradients``; a signal counts with
    all its days, a category with all its levels. The largest change first, whichever its sign.
    """
    by_feature, by_day = integrated_gradients(model, features[None], week[None])
    profile = dict.fromkeys(model.encoder.columns, 0.0)
    for name, value in zip(model.encoder.feature_names, by_feature[0].tolist(), strict=True):
        profile[next(column for column in profile if name == column or name.startswith(f"{column}="))] += value
    signals = {signal.name: float(by_day[0, :, k].sum()) for k, signal in enumerate(model.signals)}
    return sorted((*signals.items(), *profile.items()), key=lambda item: -abs(item[1]))[:n]


def batch_drivers(model: DualLSTMRisk, cohort: Cohort, n: int) -> list[list[tuple[str, float]]]:
    """The ``n`` largest drivers of each row's risk score, as ``(name, contribution)``, the largest change first.

    A signal counts with all its days and names the one with the largest share (``stress (Thu)``); a profile column
    counts with all its levels, and a categorical one names its value (``sleep_disorder=Insomnia``).

    Raises:
        DataError: the cohort's signals are not those the model was trained on, or a profile column is missing.
    """
    columns = list(model.encoder.columns)
    labels = [
        cohort.profiles[c].astype(str).radd(f"{c}=").tolist() if c in model.encoder.levels else [c] * len(cohort)
        for c in columns
    ]
    result: list[list[tuple[str, float]]] = []
    for features, week, mask in zip(*(tensor.split(BATCH) for tensor in model.inputs(cohort)), strict=True):
        by_feature, days = integrated_gradients(model, features, week, mask)
        signals = days.sum(1)  # (B, C)
        day = (days * signals.sign()[:, None]).argmax(1)  # (B, C), the day that carries most of the signal's sum
        every = torch.cat([signals, by_column(model, by_feature)], dim=1)
        chosen = every.abs().argsort(dim=1, descending=True, stable=True)[:, :n]
        for i, which in enumerate(chosen.tolist()):
            row, drivers = len(result), []
            for k in which:
                if k < len(model.signals):
                    name = f"{model.signals[k].name} ({WEEKDAYS[int(day[i, k])]})"
                else:
                    name = labels[k - len(model.signals)][row]
                drivers.append((name, float(every[i, k])))
            result.append(drivers)
    return result


def by_column(model: DualLSTMRisk, by_feature: Tensor) -> Tensor:
    """Features ``[B, P]`` summed over the levels of their profile column: ``[B, K]``."""
    widths = [len(model.encoder.levels.get(column, (column,))) for column in model.encoder.columns]
    return torch.stack([part.sum(1) for part in by_feature.split(widths, dim=1)], dim=1)


@torch.inference_mode()
def signal_response(model: DualLSTMRisk, cohort: Cohort, shift: float = 1.0) -> dict[str, dict[str, float]]:
    """How the mean risk score moves when one signal of every day moves by ``shift`` between-person sd.

    ``worse`` and ``better`` are mean changes of the score (a sound model: above and below 0), ``ordered`` the share of
    people whose score under the worse week is above the one under the better week.
    """
    features, week, mask = model.inputs(cohort)

    def score(moved: Tensor) -> Tensor:
        parts = zip(features.split(BATCH), moved.split(BATCH), mask.split(BATCH), strict=True)
        return torch.cat([risk_score(model.probabilities(*part)) for part in parts])

    now, response = score(week), {}
    for k, signal in enumerate(model.signals):
        step = torch.zeros(len(model.signals), device=week.device)
        step[k] = -signal.better * shift * model.scaler.between[k]
        low_high = torch.tensor([[s.low for s in model.signals], [s.high for s in model.signals]], device=week.device)
        worse, better = (score((week + sign * step).clamp(*low_high)) for sign in (1, -1))
        response[signal.name] = {
            "worse": float((worse - now).mean()),
            "better": float((better - now).mean()),
            "ordered": float((worse > better).float().mean()),
        }
    return response
