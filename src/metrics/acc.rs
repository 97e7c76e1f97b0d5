//! Accuracy by likelihood, over questions whose options were scored: the names that
//! lm-evaluation-harness gives them.

use super::{Basis, Better, Formula, Item, Metric, count};

/// The likeliest option is right.
pub(super) static ACC: Metric = Metric {
    name: "acc",
    unit: "share",
    better: Better::Higher,
    basis: Basis::Options,
    source: "Gao et al., lm-evaluation-harness: argmax of the options' log-likelihoods",
    summary: "share of questions with scored options whose likeliest option is right, 0 to 1; \
              without one counts as wrong",
    formula: Formula::Proportion(|items| {
        let scored = |item: &Item| item.right_per_byte.is_some();
        (count(items, |item| scored(item) && item.is_right()), count(items, scored))
    }),
};

/// The option that is likeliest per byte is right.
pub(super) static ACC_NORM: Metric = Metric {
    name: "acc_norm",
    unit: "share",
    better: Better::Higher,
    basis: Basis::Options,
    source: "Gao et al., lm-evaluation-harness: argmax of the options' log-likelihoods by length, \
             here in bytes",
    summary: "share of questions with scored options whose option likeliest per byte is right, 0 \
              to 1",
    formula: Formula::Proportion(|items| {
        (
            count(items, |item| item.right_per_byte == Some(true)),
            count(items, |item| item.right_per_byte.is_some()),
        )
    }),
};
