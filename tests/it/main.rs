//! All integration tests in one binary.

mod calibration; // maps, thresholds and the proof of their guarantee
mod consensus;
mod consensus_cases; // extraction, normalization, votes
mod cpu_attention; // attention against f64, and its invariance
mod cpu_linear; // packed weights and kernels against their definitions
mod encoder; // encoders against transformers
mod engine; // the invariants, bit for bit
mod estimates; // intervals of figures
mod eval; // tasks, run folders that survive anything, the same figures again
mod eval_cli; // eval, score, calibrate and ask --policy as a user has them
mod eval_files; // parquet and the layouts of the Hub's data sets
mod eval_options; // options by likelihood, examples before a question
mod eval_runs; // several strategies, shards of a run
mod eval_tasks; // tasks made on the spot
mod gguf; // hostile and valid GGUF files
mod hub; // downloads against a local server that speaks the Hub's protocol
mod memory; // what is held beyond the file
mod metrics; // figures against scikit-learn, MAPIE and relplot
mod model; // logits against outside implementations
mod prompt; // chat templates against transformers
mod report; // pages, tables and gates over runs
mod safetensors; // safetensors files, shards, folders
mod sampling; // statistics and sampler chain
mod strategies; // strategies and the loop under ask and eval, over a scripted engine
mod strategies_field; // weights, early stops, probes and enumeration
mod support;
mod thinking; // reasoning apart from the answer, budgets, loops
mod tidy; // the architecture
mod tokenizer; // token for token against the reference libraries
mod uncertainty; // estimators and decisions
mod vote; // groups, weights and replies
