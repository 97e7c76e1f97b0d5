//! Logits against outside implementations: mlx-lm on tiny random models of every family in both
//! formats, llama.cpp on real files.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use candor::model::cpu::Isa;
use candor::model::dtype::Dtype;
use candor::model::{Device, LoadOptions, Model, Row, WeightSource};
use serde_json::Value;

use crate::support::tiny::Recipe;
use crate::support::{folder, models};

/// Logits at every position, the tokens being fed in chunks.
fn logits(model: &Model, tokens: &[u32], chunk: usize) -> Vec<Vec<f32>> {
    let mut kv = model.new_kv();
    let mut out = Vec::new();
    for tokens in tokens.chunks(chunk) {
        let logits =
            model.forward(&mut [Row { tokens, kv: &mut kv, logits: tokens.len() }]).unwrap();
        out.extend(logits.rows().map(<[f32]>::to_vec));
    }
    out
}

fn load_on(device: Device, path: &Path) -> Model {
    Model::load(
        &WeightSource::open(path).unwrap(),
        LoadOptions { device, ..LoadOptions::default() },
    )
    .unwrap()
}

fn load(path: &Path) -> Model {
    load_on(Device::Cpu, path)
}

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/logits").join(name);
    serde_json::from_str(
        &fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
    )
    .unwrap()
}

fn numbers<T>(value: &Value, number: impl Fn(&Value) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    numbers(value, |v| u32::try_from(v.as_u64().unwrap()).unwrap())
}

fn max_abs_difference(a: &[Vec<f32>], b: &[Vec<f32>]) -> f32 {
    assert_eq!((a.len(), a[0].len()), (b.len(), b[0].len()));
    a.iter().flatten().zip(b.iter().flatten()).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// A tiny model in one format against mlx-lm's logits, which `tests/golden/tiny_logits.py` wrote.
fn check_tiny(device: Device, family: &str, format: &str, tolerance: f32) {
    let recipe = Recipe::load(family);
    let folder = tempfile::tempdir().unwrap();
    let path = match format {
        "gguf" => {
            let path = folder.path().join("tiny.gguf");
            fs::write(&path, recipe.gguf(Dtype::F32)).unwrap();
            path
        }
        shards => {
            recipe.write_hf(folder.path(), Dtype::F32, if shards == "sharded" { 2 } else { 1 });
            folder.path().to_path_buf()
        }
    };
    let golden = golden(&format!("tiny-{family}.json"));
    let expected = numbers(&golden["logits"], |row| numbers(row, |v| v.as_f64().unwrap() as f32));
    let got = logits(&load_on(device, &path), &tokens(&golden["tokens"]), usize::MAX);
    let difference = max_abs_difference(&got, &expected);
    eprintln!("{family} {format} on {device}: max abs difference {difference:.2e}");
    assert!(difference <= tolerance, "{family} {format}: {difference}");
}

#[test]
fn tiny_models_give_the_reference_logits() {
    for family in Recipe::ALL {
        for format in ["gguf", "safetensors", "sharded"] {
            // Two f32 implementations that sum in different orders; seen: 4e-6. A wrong rotation or
            // mask is off by more than 0.1.
            check_tiny(Device::Portable, family, format, 1e-4);
            // The kernels keep keys and values in half precision: a relative 2^-11 in each, on
            // logits of magnitude 5.
            check_tiny(Device::Cpu, family, format, 2e-2);
        }
    }
}

#[test]
fn half_precision_weights_mean_the_same_in_both_formats() {
    for family in Recipe::ALL {
        // Linear weights are equal; norms, biases and rope factors are f32 in GGUF and of the
        // folder's type in safetensors, a relative error of 2^-11 (f16) or 2^-8 (bf16) in each of a
        // dozen norms on logits of magnitude 5.
        for (dtype, tolerance) in [(Dtype::F16, 0.02), (Dtype::BF16, 0.15)] {
            let (gguf, folder) =
                (tempfile::NamedTempFile::new().unwrap(), tempfile::tempdir().unwrap());
            let recipe = Recipe::load(family);
            fs::write(gguf.path(), recipe.gguf(dtype)).unwrap();
            recipe.write_hf(folder.path(), dtype, 1);
            let tokens = tokens(&golden(&format!("tiny-{family}.json"))["tokens"]);
            let [a, b] =
                [gguf.path(), folder.path()].map(|path| logits(&load(path), &tokens, usize::MAX));
            let difference = max_abs_difference(&a, &b);
            eprintln!("{family} {}: {difference:.2e}", dtype.name());
            assert!(difference <= tolerance, "{family} {}: {difference}", dtype.name());
        }
    }
}

#[test]
fn chunked_prefill_gives_the_same_bits() {
    for family in Recipe::ALL {
        for dtype in [Dtype::F32, Dtype::Q8_0, Dtype::Q4_0] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tiny.gguf");
            fs::write(&path, Recipe::load(family).gguf(dtype)).unwrap();
            let tokens = tokens(&golden(&format!("tiny-{family}.json"))["tokens"]);
            for device in [Device::Cpu, Device::Portable] {
                let model = load_on(device, &path);
                let whole = logits(&model, &tokens, usize::MAX);
                for chunk in [1, 2, 5, 7, 23] {
                    assert_eq!(
                        logits(&model, &tokens, chunk),
                        whole,
                        "{family} {} on {device} in chunks of {chunk}",
                        dtype.name()
                    );
                }
            }
        }
    }
}

#[test]
fn every_instruction_set_gives_the_same_logits() {
    for family in Recipe::ALL {
        for dtype in [Dtype::F16, Dtype::Q8_0, Dtype::Q4_0] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tiny.gguf");
            fs::write(&path, Recipe::load(family).gguf(dtype)).unwrap();
            let golden = tokens(&golden(&format!("tiny-{family}.json"))["tokens"]);
            // Past two spans of 256, so that one of them is met in 8 bits.
            let tokens: Vec<u32> = golden.iter().copied().cycle().take(560).collect();
            let on = |device| {
                logits(&load_on(device, &path), &tokens, 250)
                    .into_iter()
                    .flatten()
                    .map(f32::to_bits)
                    .collect::<Vec<_>>()
            };
            let want = on(Device::CpuWith(Isa::Scalar));
            for isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
                assert!(on(Device::CpuWith(*isa)) == want, "{family} {} on {isa}", dtype.name());
            }
        }
    }
}

#[test]
fn devices_are_named_as_they_print() {
    let check = |text: &str, want: Result<Device, &str>| match (text.parse::<Device>(), want) {
        (Ok(device), Ok(want)) => assert_eq!((device, device.to_string().as_str()), (want, text)),
        (Err(error), Err(want)) => assert!(error.to_string().contains(want), "{text}: {error}"),
        (got, want) => panic!("{text}: {got:?}, not {want:?}"),
    };
    check("auto", Ok(Device::Auto));
    check("cpu", Ok(Device::Cpu));
    check("cpu:scalar", Ok(Device::CpuWith(Isa::Scalar)));
    check("portable", Ok(Device::Portable));
    check("cuda:1", Ok(Device::Cuda(1)));
    check("metal", Ok(Device::Metal));
    check("cuda:first", Err("device `cuda:first`: the number is a GPU's index"));
    check("cpu:sse9", Err("instruction set `sse9` is unknown; use one of scalar"));
    check("tpu:0", Err("device `tpu:0` is unknown; use auto, cpu"));
    check("", Err("device `` is unknown"));
}

const REAL: [(&str, &str); 3] = [
    ("smollm2", "smollm2-135m-instruct.Q4_1.gguf"),
    ("gemma3", "gemma-3-270m.Q4_K_M.gguf"),
    ("qwen2", "qwen2.5-coder-0.5b-instruct.Q4_K_M.gguf"),
];

/// Where a reference's best token leads by more than this, quantised arithmetic may not change it.
const DECIDED_MARGIN: f64 = 0.5;

/// The best token of every position, `None` where it does not lead by [`DECIDED_MARGIN`].
fn decided(prompt: &Value) -> Vec<Option<u32>> {
    let (argmax, margin) =
        (tokens(&prompt["argmax"]), numbers(&prompt["margin"], |v| v.as_f64().unwrap()));
    argmax
        .into_iter()
        .zip(margin)
        .map(|(id, margin)| (margin > DECIDED_MARGIN).then_some(id))
        .collect()
}

#[test]
fn real_models_agree_with_llama_cpp_on_the_next_token() {
    let Some(models) = models() else { return };
    for (name, file) in REAL {
        let model = load(&models.join(file));
        // As anyone runs it, with activations of 8 bits; and on the same weights in f32, which says
        // where its rounding decided.
        let (rounded, exact) =
            (golden(&format!("real-{name}.json")), golden(&format!("real-{name}-f32.json")));
        let (mut agreed, mut last) = (0, 0);
        for (rounded, exact) in
            rounded["prompts"].as_array().unwrap().iter().zip(exact["prompts"].as_array().unwrap())
        {
            let got = logits(&model, &tokens(&rounded["tokens"]), usize::MAX);
            let unrounded = tokens(&exact["argmax"]);
            for (position, reference) in decided(rounded).into_iter().enumerate() {
                // A lead over the unrounded best token is llama.cpp's own rounding: four of 1,095
                // positions.
                if let Some(reference) = reference.filter(|&id| id == unrounded[position]) {
                    agreed += 1;
                    last += usize::from(position + 1 == got.len());
                    assert_eq!(
                        candor::logits::argmax(&got[position]),
                        Some(reference),
                        "{name}, position {position} of {}",
                        got.len()
                    );
                }
            }
        }
        eprintln!("{name}: agrees at {agreed} decided positions, {last} of them a prompt's last");
        assert!(last >= 10, "{name}: the prompts hardly decide anything");
    }
}

/// A file of full logits as `tests/golden/real_logits.py` writes it: one line of JSON, then f32
/// rows of all prompts.
fn full_logits(path: &Path) -> (Value, Vec<Vec<f32>>) {
    let mut reader =
        BufReader::new(fs::File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let header: Value = serde_json::from_str(&line).unwrap();
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    let vocab = usize::try_from(header["vocab"].as_u64().unwrap()).unwrap();
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    (header, values.chunks_exact(vocab).map(<[f32]>::to_vec).collect())
}

/// KL(reference || got) in nats, in f64.
fn kl_divergence(reference: &[f32], got: &[f32]) -> f64 {
    let lse = |z: &[f32]| {
        let max = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        f64::from(max) + z.iter().map(|&v| f64::from(v - max).exp()).sum::<f64>().ln()
    };
    let (a, b) = (lse(reference), lse(got));
    reference
        .iter()
        .zip(got)
        .map(|(&x, &y)| (f64::from(x) - a).exp() * ((f64::from(x) - a) - (f64::from(y) - b)))
        .sum()
}

#[test]
fn real_models_agree_with_llama_cpp_on_the_distribution() {
    let (Some(models), Some(reference)) =
        (models(), folder("CANDOR_LOGITS", "full logits of tests/golden/real_logits.py"))
    else {
        return;
    };
    for (name, file) in REAL {
        let model = load(&models.join(file));
        for reference_name in [name.to_owned(), format!("{name}-f32")] {
            let (header, expected) =
                full_logits(&reference.join(format!("{reference_name}.logits")));
            let prompts = numbers(&header["tokens"], tokens);
            let mut first = 0;
            let (mut all, mut last) = (Vec::new(), Vec::new());
            for prompt in &prompts {
                let got = logits(&model, prompt, usize::MAX);
                let kl: Vec<f64> = expected[first..first + prompt.len()]
                    .iter()
                    .zip(&got)
                    .map(|(e, g)| kl_divergence(e, g))
                    .collect();
                first += prompt.len();
                last.push(kl[kl.len() - 1]);
                all.extend(kl);
            }
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            eprintln!(
                "{reference_name}: mean KL {:.5} nats over {} positions, {:.5} over the last ones",
                mean(&all),
                all.len(),
                mean(&last)
            );
            if reference_name == name {
                assert!(mean(&all) <= 0.02 && mean(&last) <= 0.02);
            }
        }
    }
}

/// Logits of the last 8 of every 128 tokens, so that a vocabulary's worth of numbers stays small.
fn sparse_logits(model: &Model, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut kv = model.new_kv();
    let mut out = Vec::new();
    for tokens in tokens.chunks(128) {
        let logits = model.forward(&mut [Row { tokens, kv: &mut kv, logits: 8 }]).unwrap();
        out.extend(logits.rows().map(<[f32]>::to_vec));
    }
    out
}

#[test]
fn codes_of_distant_keys_hardly_move_the_distribution() {
    let Some(models) = models() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text: String = ["LICENSE-APACHE", "README.md"]
        .iter()
        .map(|file| fs::read_to_string(root.join(file)).unwrap())
        .collect();
    for (name, file) in REAL {
        let source = WeightSource::open(&models.join(file)).unwrap();
        let tokens = candor::pipeline::load_tokenizer(&source).unwrap().encode(&text).unwrap();
        let tokens = &tokens[..1280];
        let got = sparse_logits(&load(&models.join(file)), tokens);
        let want = sparse_logits(&load_on(Device::Portable, &models.join(file)), tokens);
        let kl: Vec<f64> =
            want.iter().zip(&got).map(|(want, got)| kl_divergence(want, got)).collect();
        // The first 512 tokens meet no codes.
        let (near, distant) = kl.split_at(512 / 128 * 8);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        eprintln!(
            "{name}: mean KL {:.5} nats before, {:.5} with distant keys",
            mean(near),
            mean(distant)
        );
        assert!(mean(distant) <= 0.02, "{name}");
    }
}
