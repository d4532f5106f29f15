"""Every function that computes something of a paper names the paper, and the equation where the paper numbers it."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from gpgrad.methods import registry

ROOT = Path(__file__).parents[2] / "gpgrad" / "methods"

# (paper, equation) -> the functions that must name it. Numbers are those of the published papers.
EQUATIONS = {
    ("GPVD (AAAI 2026)", "Def. 1"): "overlap",
    ("GPVD (AAAI 2026)", "Eq. 2"): "overlap",
    ("GPVD (AAAI 2026)", "Eq. 3"): "sign_product",
    ("GPVD (AAAI 2026)", "Def. 2"): "sign_product report",
    ("GPVD (AAAI 2026)", "Eq. 4"): "sign_product protect report",
    ("GPVD (AAAI 2026)", "Eq. 5"): "make_hash codes standardise",
    ("GPVD (AAAI 2026)", "Eq. 6"): "bucket_ids",
    ("GPVD (AAAI 2026)", "Eq. 7"): "best_of_bucket protect protection_weights weigh",
    ("GPVD (AAAI 2026)", "Eq. 8"): "make",
    ("GPVD (AAAI 2026)", "Eq. 9"): "intrinsic_reward count_visits visits",
    ("GradPS (ICML 2025)", "Def. 2"): "build",
    ("GradPS (ICML 2025)", "Def. 3"): "neuron_conflict",
    ("GradPS (ICML 2025)", "Eq. 1"): "neuron_conflict",
    ("GradPS (ICML 2025)", "Def. 4"): "neuron_efficiency",
    ("GradPS (ICML 2025)", "Eq. 2"): "neuron_efficiency group_efficiency",
    ("GradPS (ICML 2025)", "Def. 5"): "futile_below",
    ("GradPS (ICML 2025)", "Eq. 3"): "futile_below",
    ("GradPS (ICML 2025)", "Eq. 4"): "restore_penalty pull",
    ("GradPS (ICML 2025)", "Eq. C.1"): "affinity",
    ("GradPS (ICML 2025)", "Eq. C.2"): "embedding",
    ("GradPS (ICML 2025)", "Algorithm 1"): "build",
    ("GradPS (ICML 2025)", "Algorithm 2"): "build end_period ripe advance open_slots merge_slots",
    ("GradPS (ICML 2025)", "Section 5.1"): "spectral_groups",
    ("GradPS (ICML 2025)", "Section 5.2"): "slots gather",
    ("GradPS (ICML 2025)", "Section 5.3"): "select_restoring spread pull merge_slots",
}
# Papers whose equations are not cited by number: only the paper is named.
PAPERS = {
    "Double DQN": "choose",
    "VDN": "make",
    "QMIX (ICML 2018)": "mix qmix make_agent td_terms",
    "QTRAN (ICML 2019)": "losses joint_q greedy_actions",
    "Weighted QMIX (NeurIPS 2020)": "optimistic_weights central_weights free_mixer",
    "QPLEX (ICLR 2021)": "mix mix_greedy duplex",
    "Qatten": "make mix attention",
    "DFAC (ICML 2021)": "join mean_utilities huber_loss",
    "RMIX (NeurIPS 2021)": "cvar predictor",
    "SePS (ICML 2021)": "embed encode model_loss",
    "SNP-PS": "make draw_masks",
    "AdaPS": "make",
    "Kaleidoscope (NeurIPS 2024)": "effective mask step diversity_loss balance redraw",
    "ReDo (ICML 2023)": "dormancy recycle",
    "IQN": "embed values huber_loss",
    "SimHash": "codes",
}
# Functions that compute nothing of a paper: shapes, slices, bookkeeping, checks of settings, dense layers.
PLUMBING = """
decomposition/base: mixed_terms check_sizes plain_utilities take take_wide masked_mean steps select
decomposition/base: targets one_step
decomposition/qmix: make_mixer
nets/agent: head_inputs head_key input_size step_keys last_actions activate count
nets/cvar: by_step
nets/gru: init project unroll
nets/joint_critic: init_mlp mlp
nets/layers: uniform init_dense matmul pick_rows dense project size split init_stack stacked cut kernel_grad bias_grad
nets/heads: values
nets/quantiles: init draw mean_embedding
optimisers: with_separate moments with_moments
registry: names register forget origins maker entry activity_check activity_checks module options
sharing/agent_embedding: check most_groups nobody first_known new_model apply describe
sharing/base: own_key
sharing/clustering: inertia by_appearance
sharing/gradps/clones: layer_of with_layer used used_mean clear_clones
sharing/gradps/conflict: masked_median
sharing/gradps/layer: start restart describe
sharing/gradps/lifecycle: start
sharing/gradps/scheme: variant
sharing/gradps/settings: check
sharing/kaleidoscope: begin dense_layers with_dense_layers new_thresholds push
sharing/nops: independent
sharing/snp: check_ratio
weighting/gpvd: flatten transitions share_bonus check
weighting/gpvd_random: draw_lots deal
weighting/inspect: pick
weighting/none: make
weighting/simhash: moments make_salts fingerprints scramble ranks
weighting/visits: make_counts resize
"""


def docstrings() -> dict[tuple[str, str], str]:
    """By module and name, of all public functions of the methods."""
    found = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                found[str(path.relative_to(ROOT).with_suffix("")), node.name] = ast.get_docstring(node) or ""
    return found


def sources(name: str) -> list[str]:
    """What the functions of a name say of their source, on one line each."""
    texts = [text for (_, function), text in docstrings().items() if function == name]
    return [" ".join(text.partition("Source:")[2].split()) for text in texts if "Source:" in text]


@pytest.mark.parametrize(("paper", "equation"), EQUATIONS)
def test_equations_are_named_where_they_are_computed(paper, equation):
    for name in EQUATIONS[paper, equation].split():
        cited = [part for text in sources(name) for part in text.split("; ") if paper in part]
        assert any(equation in part for part in cited), f"{name} must name {paper}, {equation}"


def test_papers_are_named_where_they_are_computed():
    for paper, names in PAPERS.items():
        for name in names.split():
            assert any(paper in text for text in sources(name)), f"{name} must name {paper}"


def test_every_function_names_a_source_or_computes_nothing_of_a_paper():
    plumbing = {
        (module, name) for line in PLUMBING.split("\n") if line for module, _, names in [line.partition(": ")]
        for name in names.split()
    }  # fmt: skip
    silent = {key for key, text in docstrings().items() if "Source:" not in text}
    assert silent == plumbing


def test_every_part_says_what_it_is():
    """Its maker's docstring is what help and lists show."""
    for kind in registry.KINDS:
        for name in registry.names(kind):
            assert (inspect.getdoc(registry.maker(kind, name)) or "").strip(), name
