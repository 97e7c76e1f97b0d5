//! Settings that the benches share, from the environment, since divan owns the command line.
//!
//! `CANDOR_THREADS` (default: all physical cores), `CANDOR_ISA` (scalar, avx2 or avx512vnni;
//! default: the best), and `CANDOR_ONLY`, a text that a case's name must contain.

use std::env;
use std::sync::LazyLock;

use candor::internals::model::cpu::{Isa, Pool, physical_cores};

/// The pool of all cases; the calling thread is pinned.
pub fn pool() -> &'static Pool {
    static POOL: LazyLock<Pool> = LazyLock::new(|| {
        let given = env::var("CANDOR_THREADS")
            .map(|text| text.parse().expect("CANDOR_THREADS is a number"));
        let pool = Pool::new(given.unwrap_or_else(|_| physical_cores()));
        pool.pin_caller();
        pool
    });
    &POOL
}

/// The instruction set to measure.
pub fn isa() -> Isa {
    let isa = env::var("CANDOR_ISA").map_or_else(
        |_| Isa::best(),
        |name| name.parse().expect("CANDOR_ISA is a set of instructions"),
    );
    assert!(isa.is_available(), "this processor has no {isa}");
    isa
}

/// The cases selected by `CANDOR_ONLY`.
pub fn selected<T: ToString>(cases: impl IntoIterator<Item = T>) -> Vec<T> {
    let only = env::var("CANDOR_ONLY").unwrap_or_default();
    cases.into_iter().filter(|case| case.to_string().contains(&only)).collect()
}
