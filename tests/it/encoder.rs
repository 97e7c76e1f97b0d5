//! Encoders against transformers, on tiny random models and, where they are on this machine, on
//! real ones; and files that are not what they claim.

use std::fs;
use std::path::{Path, PathBuf};

use candor::internals::encoder::{Encoder, same_by_cosine};
use candor::internals::model::Device;
use serde_json::{Value, json};

use crate::gguf::{Random, mutate};
use crate::support::alloc::peak_bytes;

const FILES: [&str; 3] = ["config.json", "tokenizer.json", "model.safetensors"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/encoder").join(name)
}

fn reference(name: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(golden(name)).unwrap()).unwrap()
}

fn load(folder: &Path) -> Encoder {
    Encoder::load(folder, Device::Portable).unwrap()
}

fn strings(value: &Value) -> Vec<String> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A copy of a tiny encoder with another configuration.
fn copy_with(name: &str, edits: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES {
        fs::copy(golden(name).join(file), folder.path().join(file)).unwrap();
    }
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in edits.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(&path, config.to_string()).unwrap();
    folder
}

/// Every pair of `answers`: `P(entailment)` as in `expected`, and `same` made of both directions.
fn check_entailment(
    encoder: &Encoder,
    question: &str,
    answers: &[String],
    expected: &Value,
    tolerance: f64,
) {
    let full = |answer: &String| format!("{question} {answer}");
    let p = |a, b| encoder.entailment(&full(a), &full(b)).unwrap();
    for (a, row) in answers.iter().zip(expected.as_array().unwrap()) {
        for (b, want) in answers.iter().zip(row.as_array().unwrap()) {
            let (got, want) = (p(a, b), want.as_f64().unwrap());
            assert!((got - want).abs() < tolerance, "{a:?} => {b:?}: {got}, want {want}");
            let same = encoder.same(question, &[(a.clone(), b.clone())]).unwrap();
            assert_eq!(same, [got.min(p(b, a))], "{a:?} {b:?}");
        }
    }
}

/// The same bits in either order, alone and among other pairs.
fn check_pairs_are_independent(encoder: &Encoder, question: &str, answers: &[String]) {
    let pair = |a: &String, b: &String| (a.clone(), b.clone());
    let pairs: Vec<_> =
        answers.iter().flat_map(|a| answers.iter().map(move |b| pair(a, b))).collect();
    let together = encoder.same(question, &pairs).unwrap();
    for ((a, b), together) in pairs.iter().zip(&together) {
        assert!((0.0..=1.0).contains(together));
        assert_eq!(encoder.same(question, &[pair(a, b)]).unwrap(), [*together], "{a:?} {b:?}");
        assert_eq!(encoder.same(question, &[pair(b, a)]).unwrap(), [*together], "{b:?} {a:?}");
    }
}

fn cosine(a: &Value, b: &Value) -> f64 {
    let numbers = |value: &Value| serde_json::from_value::<Vec<f64>>(value.clone()).unwrap();
    numbers(a).iter().zip(numbers(b)).map(|(x, y)| x * y).sum()
}

#[test]
fn tiny_embeddings_equal_transformers() {
    let (encoder, reference) = (load(&golden("bert")), reference("reference.json"));
    let texts = strings(&reference["texts"]);
    let mut moved = 0.0f64;
    for (text, want) in texts.iter().zip(reference["embeddings"].as_array().unwrap()) {
        let got = encoder.embedding(text).unwrap();
        assert_eq!(got.len(), want.as_array().unwrap().len());
        for (got, want) in got.iter().zip(want.as_array().unwrap()) {
            let want = want.as_f64().unwrap();
            assert!((f64::from(*got) - want).abs() < 1e-5, "{text:?}: {got}, want {want}");
        }
        moved = moved.max(1.0 - cosine(want, &reference["embeddings"][0]));
    }
    assert!(moved > 0.005, "the texts differ by {moved} in cosine");
    // The question's direction does not count.
    let embed = |text: &str| -> Vec<f64> {
        encoder.embedding(text).unwrap().into_iter().map(f64::from).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (q, a, b) = (embed("what"), embed("what is"), embed("what Paris"));
    let (aq, bq) = (dot(&a, &q), dot(&b, &q));
    let cosine = (dot(&a, &b) - aq * bq) / ((1.0 - aq * aq) * (1.0 - bq * bq)).sqrt();
    let same = encoder.same("what", &[("is".into(), "Paris".into())]).unwrap()[0];
    let want = same_by_cosine(cosine);
    assert!((same - want).abs() < 1e-3, "{same}, want {want}");
    assert!(encoder.same("what", &[(String::new(), String::new())]).unwrap()[0] > 0.5);
    check_pairs_are_independent(&encoder, "x", &texts);
}

#[test]
fn tiny_entailment_equals_transformers() {
    let reference = reference("reference.json");
    let (question, answers) =
        (reference["question"].as_str().unwrap(), strings(&reference["answers"]));
    let check = |name: &str, edits: Value, expected: &str| {
        let folder = copy_with(name, &edits);
        let encoder = load(folder.path());
        check_entailment(&encoder, question, &answers, &reference[expected], 1e-5);
        check_pairs_are_independent(&encoder, question, &answers);
    };
    check("deberta-v2", json!({}), "deberta-v2");
    check("modernbert", json!({}), "modernbert");
    check("modernbert", json!({"classifier_pooling": "cls"}), "modernbert-cls");
    // The keys of transformers 4.
    let older = json!({"layer_types": null, "rope_parameters": null, "local_rope_theta": 1e4,
        "global_rope_theta": 1.6e5, "global_attn_every_n_layers": 3});
    check("modernbert", older, "modernbert");
}

#[test]
fn an_encoder_is_identified_by_its_files() {
    let encoder = load(&golden("bert"));
    let weights = load(&golden("bert").join("model.safetensors"));
    let bytes: Vec<u8> =
        FILES.iter().flat_map(|file| fs::read(golden("bert").join(file)).unwrap()).collect();
    let digest = candor::internals::digest::sha256_hex(&bytes);
    assert_eq!((encoder.name(), encoder.sha256()), ("bert", digest.as_str()));
    assert_eq!(weights.sha256(), digest);
    let other = copy_with("bert", &json!({"layer_norm_eps": 1e-5}));
    assert_ne!(load(other.path()).sha256(), digest);
    assert!(encoder.entailment("a", "b").unwrap_err().is_usage());
    assert!(load(&golden("modernbert")).embedding("a").unwrap_err().is_usage());
}

/// Loading the folder fails with `want`, without much memory.
fn check_refused(folder: &Path, want: &str) {
    let (result, peak) = peak_bytes(|| Encoder::load(folder, Device::Portable).map(drop));
    let error = result.expect_err(want);
    assert!(peak < 16 << 20, "{want}: held {peak} bytes");
    assert!(
        (error.is_invalid_file() || error.exit_code() == 1) && error.to_string().contains(want),
        "got `{error}`, want `{want}`"
    );
}

#[test]
fn configurations_that_are_not_understood_are_refused_by_name() {
    let check = |name: &str, edits: Value, want: &str| {
        check_refused(copy_with(name, &edits).path(), want);
    };
    let huge = 1u64 << 60;
    let bert = [
        (json!({"model_type": "roberta"}), "model_type is \"roberta\""),
        (json!({"model_type": "gpt2"}), "bert (BertModel), deberta-v2 (DebertaV2For"),
        (json!({"architectures": ["BertForSequenceClassification"]}), "BertForSequence"),
        (json!({"model_type": null}), "config.json: model_type is missing"),
        (json!({"hidden_size": huge}), "hidden_size is 1152921504606846976, want 1 to"),
        (json!({"hidden_size": -1}), "hidden_size: invalid value: integer `-1`"),
        (json!({"hidden_size": 16.5}), "hidden_size: invalid type"),
        (json!({"hidden_size": 1 << 20}), "has shape [91, 16], config.json asks for [91, 1048576]"),
        (json!({"num_hidden_layers": huge}), "num_hidden_layers is"),
        (
            json!({"num_hidden_layers": 1000}),
            "\"encoder.layer.2.attention.self.query.weight\" is mis",
        ),
        (json!({"num_hidden_layers": 1}), "no tensor encoder.layer.1."),
        (json!({"num_attention_heads": 0}), "num_attention_heads is 0"),
        (json!({"num_attention_heads": 3}), "not a multiple of num_attention_heads, 3"),
        (json!({"max_position_embeddings": huge}), "max_position_embeddings is"),
        (json!({"max_position_embeddings": 4}), "too few"),
        (json!({"intermediate_size": 64}), "config.json asks for [64, 16]"),
        (json!({"hidden_act": "relu"}), "hidden_act is \"relu\", supported is \"gelu\""),
        (json!({"position_embedding_type": "relative_key"}), "position_embedding_type is"),
        (json!({"layer_norm_eps": 0}), "layer_norm_eps is 0, want a positive number"),
        (json!({"rotary": true}), "candor does not apply them: rotary"),
        (json!({"vocab_size": 50}), "the tokenizer has ids up to"),
    ];
    for (edits, want) in bert {
        check("bert", edits, want);
    }
    let deberta = [
        (json!({"conv_kernel_size": 3}), "conv_kernel_size is 3, supported is 0"),
        (json!({"relative_attention": false}), "relative_attention is false"),
        (json!({"position_biased_input": null}), "position_biased_input is missing"),
        (json!({"max_relative_positions": huge}), "max_relative_positions is"),
        (json!({"position_buckets": 1 << 19}), "asks for [1048576, 16]"),
        (json!({"pos_att_type": ["p2p"]}), "pos_att_type [\"p2p\"]"),
        (json!({"norm_rel_ebd": "batch"}), "norm_rel_ebd is \"batch\""),
        (json!({"share_att_key": false}), "pos_key_proj.weight\" is missing"),
        (json!({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}), "[\"LABEL_0\", \"LABEL_1\"]"),
        (json!({"id2label": {"0": "no", "7": "entailment"}}), "want labels 0, 1, ..."),
        (json!({"id2label": {"0": "no", "1": "entailment"}}), "config.json asks for [2, 16]"),
        (json!({"id2label": null}), "id2label is missing"),
    ];
    for (edits, want) in deberta {
        check("deberta-v2", edits, want);
    }
    let modern = [
        (json!({"layer_types": null}), "global_attn_every_n_layers is missing"),
        (json!({"layer_types": null, "global_attn_every_n_layers": 0}), "every_n_layers is 0"),
        (json!({"layer_types": []}), "layer_types is irregular"),
        (json!({"rope_parameters": {}}), "rope_parameters has no full_attention"),
        (
            json!({"rope_parameters": {"full_attention": {"rope_theta": 1, "factor": 2}}}),
            "`factor`",
        ),
        (json!({"local_attention": huge}), "local_attention is"),
        (json!({"classifier_pooling": "max"}), "classifier_pooling is \"max\""),
        (json!({"attention_bias": true}), "attention_bias"),
        (json!({"num_attention_heads": 16}), "an even number"),
        (json!({"rope_parameters": null, "global_rope_theta": -1}), "global_rope_theta is -1"),
        (json!({"rope_parameters": null, "global_rope_theta": 1}), "local_rope_theta is missing"),
    ];
    for (edits, want) in modern {
        check("modernbert", edits, want);
    }
}

#[test]
fn broken_files_are_refused_by_name() {
    let check = |name: &str, file: &str, content: &[u8], want: &str| {
        let folder = copy_with(name, &json!({}));
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        check_refused(folder.path(), want);
    };
    let tokenizer: Value = reference("bert/tokenizer.json");
    let edited = |key: &str, value: Value| {
        let mut edited = tokenizer.clone();
        edited[key] = value;
        edited.to_string().into_bytes()
    };
    let replace = json!({"type": "Sequence", "normalizers": [
        {"type": "Replace", "pattern": {"String": "a"}, "content": "aaaa"}]});
    let mut word_level = tokenizer["model"].clone();
    word_level["type"] = json!("WordLevel");
    let mut long_words = tokenizer["model"].clone();
    long_words["max_input_chars_per_word"] = json!(u64::MAX);
    let tokenizers = [
        (b"{}".to_vec(), "is not a tokenizer.json: missing field `model`"),
        (b"\xff\xfe".to_vec(), "is not UTF-8"),
        (edited("normalizer", replace), "normalizer Replace has content \"aaaa\""),
        (edited("normalizer", json!({"type": "Prepend", "prepend": "a"})), "normalizer is \"Prep"),
        (edited("pre_tokenizer", json!({"type": "FixedLength", "length": 0})), "is \"FixedLength"),
        (edited("model", word_level), "model.type is \"WordLevel\", supported: [\"WordPiece\""),
        (edited("model", long_words), "max_input_chars_per_word is 18446744073709551615"),
        (edited("model", json!({"type": "WordPiece", "vocab": 3})), "tokenizer.json: "),
    ];
    for (content, want) in tokenizers {
        check("bert", "tokenizer.json", &content, want);
    }
    let renamed = tokenizer.to_string().replace("[CLS]", "<s>");
    check("bert", "tokenizer.json", renamed.as_bytes(), "has no token [CLS]");
    check("bert", "config.json", b"[]", "config.json: want a JSON object");
    check("bert", "config.json", b"{\"model_type\": \"be", "config.json: invalid JSON");
    let cls = br#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#;
    check("bert", "1_Pooling/config.json", cls, "pooling_mode_cls_token is true");
    let weights = fs::read(golden("bert/model.safetensors")).unwrap();
    check("bert", "model.safetensors", &weights[..weights.len() - 4], "invalid safetensors");
    let other = fs::read(golden("modernbert/model.safetensors")).unwrap();
    check("bert", "model.safetensors", &other, "embeddings.word_embeddings.weight\" is missing");
    for file in FILES {
        let folder = copy_with("bert", &json!({}));
        fs::remove_file(folder.path().join(file)).unwrap();
        check_refused(folder.path(), file);
    }
}

#[test]
fn mutated_files_never_panic() {
    let mut random = Random(7);
    let (mut loaded, mut refused) = (0, 0);
    for round in 0..240 {
        let name = ["bert", "deberta-v2", "modernbert"][round % 3];
        let folder = copy_with(name, &json!({}));
        let path = folder.path().join(FILES[round / 3 % 3]);
        let mut bytes = fs::read(&path).unwrap();
        mutate(&mut bytes, 6000, &mut random);
        fs::write(&path, bytes).unwrap();
        let run = || {
            let encoder = Encoder::load(folder.path(), Device::Portable)?;
            encoder.same("What?", &[("Paris".into(), "in the south".into())])
        };
        let (result, peak) = peak_bytes(run);
        assert!(peak < 64 << 20, "round {round}: held {peak} bytes");
        match result {
            Ok(same) => loaded += usize::from((0.0..=1.0).contains(&same[0])),
            Err(error) => {
                assert!(!error.to_string().is_empty(), "round {round}");
                refused += 1;
            }
        }
    }
    assert!(loaded > 2 && refused > 50, "{loaded} loaded, {refused} refused");
}

#[test]
fn real_encoders_equal_transformers() {
    let Some(folder) = std::env::var_os("CANDOR_ENCODERS") else {
        println!("skipped: CANDOR_ENCODERS names no folder with real encoders");
        return;
    };
    let (folder, reference) = (Path::new(&folder), reference("real.json"));
    let (question, answers) =
        (reference["question"].as_str().unwrap(), strings(&reference["answers"]));
    let mini = load(&folder.join("all-MiniLM-L6-v2"));
    let mut embeddings = Vec::new();
    for (answer, want) in answers.iter().zip(reference["embeddings"].as_array().unwrap()) {
        let got = mini.embedding(answer).unwrap();
        for (got, want) in got.iter().zip(want.as_array().unwrap()) {
            assert!((f64::from(*got) - want.as_f64().unwrap()).abs() < 1e-4, "{answer}");
        }
        embeddings.push(got);
    }
    assert_eq!((embeddings.len(), embeddings[0].len()), (answers.len(), 384));
    let deberta = load(&folder.join("nli-deberta-v3-xsmall"));
    check_entailment(&deberta, question, &answers, &reference["entailment"], 1e-4);
}
