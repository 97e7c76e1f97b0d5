//! Logits against outside implementations: mlx-lm on tiny random models of every family in both
//! formats, llama.cpp on real files.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use candor::internals::format::dtype::Dtype;
use candor::internals::model::cpu::Isa;
use candor::internals::model::spec::ModelConfig;
use candor::internals::model::{Device, LoadOptions, Model, Row, WeightSource};
use serde_json::Value;

use crate::support::gguf_writer::{self, Tensor, Writer};
use crate::support::tiny::Recipe;
use crate::support::{folder, models};

/// Logits at every position, with the tokens fed in chunks.
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
    load_on(Device::Cpu(None), path)
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
            check_tiny(Device::Cpu(None), family, format, 2e-2);
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

/// The recipe's model in a folder of its own, with linear weights in f32.
fn written(recipe: &Recipe, format: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = match format {
        "gguf" => folder.path().join("tiny.gguf"),
        _ => folder.path().to_path_buf(),
    };
    match format {
        "gguf" => fs::write(&path, recipe.gguf(Dtype::F32)).unwrap(),
        _ => recipe.write_hf(&path, Dtype::F32, 1),
    }
    (folder, path)
}

/// The recipe's logits for the tokens of its family's golden.
fn tiny_logits(recipe: &Recipe, device: Device, format: &str) -> Vec<Vec<f32>> {
    let (_folder, path) = written(recipe, format);
    logits(&load_on(device, &path), &tokens(&golden("tiny-qwen2.json")["tokens"]), usize::MAX)
}

#[test]
fn a_llama_with_attention_biases_is_a_qwen2() {
    let mut recipe = Recipe::load("qwen2");
    recipe.config.insert("model_type".into(), "llama".into());
    recipe.config.insert("attention_bias".into(), true.into());
    recipe.zero = Some("o_proj.bias");
    let golden = golden("tiny-qwen2.json");
    let expected = numbers(&golden["logits"], |row| numbers(row, |v| v.as_f64().unwrap() as f32));
    for format in ["gguf", "safetensors"] {
        let portable = tiny_logits(&recipe, Device::Portable, format);
        assert!(max_abs_difference(&portable, &expected) <= 1e-4, "{format}");
        let cpu = tiny_logits(&recipe, Device::Cpu(None), format);
        assert!(max_abs_difference(&cpu, &expected) <= 2e-2, "{format}");
    }
}

#[test]
fn all_biases_of_a_llama_are_added_in_both_formats() {
    let mut recipe = Recipe::load("llama");
    let plain = tiny_logits(&recipe, Device::Portable, "safetensors");
    for key in ["mlp_bias", "attention_bias"] {
        recipe.config.insert(key.into(), true.into());
        let biased = tiny_logits(&recipe, Device::Portable, "safetensors");
        assert!(max_abs_difference(&biased, &plain) > 0.1, "{key} has no effect");
        let gguf = tiny_logits(&recipe, Device::Portable, "gguf");
        let difference = max_abs_difference(&biased, &gguf);
        assert!(difference <= 1e-4, "{key}: {difference}");
        let cpu = tiny_logits(&recipe, Device::Cpu(None), "gguf");
        let difference = max_abs_difference(&biased, &cpu);
        assert!(difference <= 2e-2, "{key} on the CPU: {difference}");
    }
}

/// The error of reading the config of the model at `path`.
fn refusal(path: &Path) -> String {
    let error = WeightSource::open(path).unwrap().config().expect_err("a refusal");
    assert!(error.is_invalid_file(), "{error:?}");
    error.to_string()
}

#[test]
fn tensors_that_nothing_uses_are_refused_in_both_formats() {
    // Biases that the config does not mention.
    let mut recipe = Recipe::load("llama");
    recipe.config.insert("mlp_bias".into(), true.into());
    let (folder, path) = written(&recipe, "safetensors");
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let config = config.replace("\"mlp_bias\": true", "\"mlp_bias\": false");
    fs::write(folder.path().join("config.json"), config).unwrap();
    let text = refusal(&path);
    assert!(text.contains("does not use model.layers.0.mlp.down_proj.bias"), "{text}");
    // A layer more than the config says.
    let recipe = Recipe::load("qwen3");
    let (folder, path) = written(&recipe, "safetensors");
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let config = config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    fs::write(folder.path().join("config.json"), config).unwrap();
    assert!(refusal(&path).contains("does not use model.layers.1."));
    let mut writer = recipe.writer(Dtype::F32);
    writer.tensors.push(Tensor::new("blk.0.attn_gate.weight", &[4], Dtype::F32, &[0.0; 4]));
    let path = folder.path().join("tiny.gguf");
    fs::write(&path, writer.bytes()).unwrap();
    assert!(refusal(&path).contains("does not use blk.0.attn_gate.weight"));
}

#[test]
fn buffers_and_the_copy_of_a_tied_head_may_be_there() {
    let mut recipe = Recipe::load("llama");
    let (folder, path) = written(&recipe, "safetensors");
    // The head is in the file; the config says that the embedding is used.
    let config = fs::read_to_string(folder.path().join("config.json")).unwrap();
    let tied = config.replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    fs::write(folder.path().join("config.json"), tied).unwrap();
    assert!(WeightSource::open(&path).unwrap().config().unwrap().tie_word_embeddings);
    recipe.extra = Some("model.layers.0.self_attn.rotary_emb.inv_freq");
    let (_folder, path) = written(&recipe, "safetensors");
    WeightSource::open(&path).unwrap().config().unwrap();
}

/// The config from a GGUF file of the recipe, after `change`.
fn gguf_config(recipe: &Recipe, change: impl FnOnce(&mut Writer)) -> Result<ModelConfig, String> {
    let file = tempfile::Builder::new().suffix(".gguf").tempfile().unwrap();
    let mut writer = recipe.writer(Dtype::F32);
    change(&mut writer);
    fs::write(file.path(), writer.bytes()).unwrap();
    WeightSource::open(file.path()).unwrap().config().map_err(|error| error.to_string())
}

#[test]
fn gemma3_of_62_layers_scales_queries_by_the_width_of_a_head() {
    let check = |layers: i64, want: f64| {
        let mut recipe = Recipe::load("gemma3");
        recipe.config.insert("num_hidden_layers".into(), layers.into());
        let config = gguf_config(&recipe, |writer| {
            writer.metadata.retain(|(key, _)| key != b"gemma3.attention.scale");
        });
        assert!((config.unwrap().attention_scale - want).abs() < 1e-12, "{layers} layers");
    };
    // hidden_size 64 over 4 heads, and head_dim 32.
    check(62, 0.25);
    check(61, 32f64.powf(-0.5));
}

#[test]
fn gguf_rope_factors_without_a_type_are_linear() {
    let recipe = Recipe::load("qwen2");
    let first = |key: &str, value: f32| {
        gguf_config(&recipe, |writer| writer.set(key, value))
            .map(|config| config.ropes[0].inv_freq[0])
    };
    assert_eq!(first("qwen2.rope.scale_linear", 4.0), Ok(0.25));
    assert_eq!(first("qwen2.rope.scaling.factor", 2.0), Ok(0.5));
    let both = gguf_config(&recipe, |writer| {
        writer.set("qwen2.rope.scaling.type", "none");
        writer.set("qwen2.rope.scaling.factor", 2f32);
    });
    assert_eq!(both.unwrap().ropes[0].inv_freq[0], 1.0);
}

#[test]
fn gguf_keys_that_change_the_result_and_are_not_understood_are_refused() {
    let recipe = Recipe::load("llama");
    let check = |key: &str, value: gguf_writer::Value, want: &str| {
        let text = gguf_config(&recipe, |writer| writer.set(key, value)).unwrap_err();
        assert!(text.contains(want), "{key}: got `{text}`, want `{want}`");
    };
    check("llama.logit_scale", 8f32.into(), "llama.logit_scale = 8.0");
    check("llama.expert_count", 8u32.into(), "llama.expert_count = 8.0");
    check("llama.attention.causal", false.into(), "is_causal is false");
    check("llama.attention.sliding_window", 16u32.into(), "have no sliding window");
    gguf_config(&recipe, |writer| {
        writer.set("llama.logit_scale", 1f32);
        writer.set("llama.expert_count", 0u32);
        writer.set("llama.attention.causal", true);
        writer.set("llama.tensor_data_layout", "Meta AI original pth");
    })
    .unwrap();
}

#[test]
fn a_guessed_pre_tokenizer_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let show = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_candor"))
            .args(["show", "--offline"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut writer = Recipe::load("qwen2").writer(Dtype::F32);
    fs::write(&path, writer.bytes()).unwrap();
    assert!(!show().contains("note"));
    writer.metadata.retain(|(key, _)| key != b"tokenizer.ggml.pre");
    fs::write(&path, writer.bytes()).unwrap();
    assert!(show().contains("note            the file has no tokenizer.ggml.pre"));
}

#[test]
fn chunked_prefill_gives_the_same_bits() {
    for family in Recipe::ALL {
        for dtype in [Dtype::F32, Dtype::Q8_0, Dtype::Q4_0] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tiny.gguf");
            fs::write(&path, Recipe::load(family).gguf(dtype)).unwrap();
            let tokens = tokens(&golden(&format!("tiny-{family}.json"))["tokens"]);
            for device in [Device::Cpu(None), Device::Portable] {
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
            // Past two spans of 256, so that one of them is read in int8.
            let tokens: Vec<u32> = golden.iter().copied().cycle().take(560).collect();
            let on = |device| {
                logits(&load_on(device, &path), &tokens, 250)
                    .into_iter()
                    .flatten()
                    .map(f32::to_bits)
                    .collect::<Vec<_>>()
            };
            let want = on(Device::Cpu(Some(Isa::Scalar)));
            for isa in Isa::ALL.iter().filter(|isa| isa.is_available()) {
                assert!(on(Device::Cpu(Some(*isa))) == want, "{family} {} on {isa}", dtype.name());
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
    check("cpu", Ok(Device::Cpu(None)));
    check("cpu:scalar", Ok(Device::Cpu(Some(Isa::Scalar))));
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

/// Quantized arithmetic may not change the best token if its lead in the reference is larger.
const DECIDED_MARGIN: f64 = 0.5;

/// The best token of every position, `None` if it does not lead by [`DECIDED_MARGIN`].
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
        // The reference with its usual 8-bit activations, and with the same weights in f32, which
        // shows where rounding decided.
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
                        candor::internals::logits::argmax(&got[position]),
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

/// Logits of the last 8 of every 128 tokens, to limit memory.
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
fn int8_keys_hardly_move_the_distribution() {
    let Some(models) = models() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text: String = ["LICENSE-APACHE", "README.md"]
        .iter()
        .map(|file| fs::read_to_string(root.join(file)).unwrap())
        .collect();
    for (name, file) in REAL {
        let source = WeightSource::open(&models.join(file)).unwrap();
        let tokens =
            candor::internals::pipeline::load_tokenizer(&source).unwrap().encode(&text).unwrap();
        let tokens = &tokens[..1280];
        let got = sparse_logits(&load(&models.join(file)), tokens);
        let want = sparse_logits(&load_on(Device::Portable, &models.join(file)), tokens);
        let kl: Vec<f64> =
            want.iter().zip(&got).map(|(want, got)| kl_divergence(want, got)).collect();
        // The first 512 tokens read no int8 keys.
        let (f16, int8) = kl.split_at(512 / 128 * 8);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        eprintln!("{name}: mean KL {:.5} nats before, {:.5} with int8 keys", mean(f16), mean(int8));
        assert!(mean(int8) <= 0.02, "{name}");
    }
}
