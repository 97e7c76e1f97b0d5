//! The safetensors reader: bad headers, hostile indexes, shards, folders, and tiny models that read
//! back as written.

use std::fs;
use std::path::Path;

use candor::internals::format::dtype::Dtype;
use candor::internals::format::safetensors::SafeTensorFiles;

use crate::gguf::{Random, mutate};
use crate::support::alloc::peak_bytes;
use crate::support::gguf_writer::encode;
use crate::support::tiny::Recipe;

/// A file: the header's length, the header, `data` bytes of zeros.
fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

/// The error that opening `path` gives.
fn refusal(path: &Path) -> String {
    let error = SafeTensorFiles::open(path).map(drop).expect_err("a refusal");
    assert!(error.is_invalid_file() && error.exit_code() == 4, "{error:?}");
    error.to_string()
}

/// `bytes` as a file must be refused with the file's name and a text that contains `want`.
fn check(bytes: &[u8], want: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    let text = refusal(&path);
    assert!(
        text.contains("model.safetensors: invalid safetensors: ") && text.contains(want),
        "got `{text}`, want `{want}`"
    );
}

#[test]
fn bad_files_are_refused() {
    let one = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    check(b"", "the file is 0 bytes long, the header's length alone needs 8");
    check(&[0; 7], "the file is 7 bytes long");
    check(
        &u64::MAX.to_le_bytes(),
        "header length is 18446744073709551615, the limit is 100000000 and 0 bytes are left in the file",
    );
    check(&file(one, 8)[..20], "and 12 bytes are left in the file");
    check(&file("", 0), "the header does not start with `{`");
    check(&file(&format!(" {one}"), 8), "the header does not start with `{`");
    check(&file("{\"a\":", 0), "header: \"a\": EOF while parsing");
    check(&file("{\"\u{1}", 0), "header: control character");
    check(&file("{}", 1), "the tensors end at data offset 0, the file at 1");
    check(&file(one, 7), "the tensors end at data offset 8, the file at 7");
    check(&file(one, 9), "the tensors end at data offset 8, the file at 9");
    check(
        &file(r#"{"a":{"dtype":"Q4","shape":[2],"data_offsets":[0,8]}}"#, 8),
        "header: \"a\": unknown variant `Q4`",
    );
    check(
        &file(r#"{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, 8),
        "header: \"a\": invalid value: integer `-2`",
    );
    check(
        &file(r#"{"a":{"dtype":"F32","shape":[2]}}"#, 8),
        "header: \"a\": missing field `data_offsets`",
    );
    check(
        &file(r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, 8),
        "invalid shape, data type, or offset",
    );
    check(
        &file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, 8),
        "invalid offset for tensor `a`",
    );
    check(
        &file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12),
        "invalid offset for tensor `a`",
    );
    let two =
        |b: &str| format!(r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},{b}}}"#);
    check(
        &file(&two(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#), 12),
        "invalid offset for tensor `b`",
    );
    check(
        &file(&two(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}"#), 20),
        "invalid offset for tensor `b`",
    );
    check(
        &file(&two(r#""a":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}"#), 8),
        "header: \"a\" occurs twice",
    );
    check(&file(r#"{"__metadata__":{"format":1}}"#, 0), "header: \"__metadata__\": invalid type");
    check(
        &file(r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#, 8),
        "overflow computing buffer size",
    );
    // Eight tensors of 2⁶¹ - 1 bytes: the offsets are without a hole, and end where header and
    // length overflow a u64.
    let part = (1u64 << 61) - 1;
    let row = |i: u64| {
        format!(
            r#""t{i}":{{"dtype":"U8","shape":[{part}],"data_offsets":[{},{}]}}"#,
            i * part,
            (i + 1) * part
        )
    };
    let rows: Vec<String> = (0..8).map(row).collect();
    check(
        &file(&format!("{{{}}}", rows.join(",")), 8),
        "the tensors end at data offset 18446744073709551608, the file at 8",
    );
}

#[test]
fn other_types_are_refused_by_name() {
    let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[],"data_offsets":[8,10]}}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    fs::write(&path, file(header, 10)).unwrap();
    let files = SafeTensorFiles::open(&path).unwrap();
    assert_eq!(files.tensor_names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(
        (files.tensor("b").unwrap().shape.len(), files.tensor("b").unwrap().bytes.len()),
        (0, 2)
    );
    let text = files.tensor("a").unwrap_err().to_string();
    assert!(text.ends_with("x.safetensors: tensor \"a\" is of type I64; candor reads F32, F16 and BF16 from safetensors"), "{text}");
    let text = files.tensor("c").unwrap_err().to_string();
    assert!(text.ends_with("tensor \"c\" is missing; there are 2 others"), "{text}");
    assert!(!files.contains("c"));
}

/// A folder with one good shard and an index of the given text must be refused with `want`.
fn check_index(index: &str, want: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("s.safetensors"),
        file(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 8),
    )
    .unwrap();
    fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let text = refusal(folder.path());
    assert!(
        text.contains("model.safetensors.index.json: ") && text.contains(want),
        "{index}: got `{text}`, want `{want}`"
    );
}

#[test]
fn hostile_indexes_are_refused() {
    let map = |shard: &str| format!(r#"{{"weight_map":{{"a":"{shard}"}}}}"#);
    for shard in [
        "../s.safetensors",
        "/s.safetensors",
        "d/s.safetensors",
        r"..\\s.safetensors",
        "C:s.safetensors",
        ".safetensors",
        "..",
        "",
    ] {
        check_index(&map(shard), "is not a plain file name that ends in .safetensors");
    }
    check_index(
        &map(r"s\u0000.safetensors"),
        r#"shard name "s\0.safetensors" is not a plain file name"#,
    );
    check_index(&map("pytorch_model.bin"), r#"shard name "pytorch_model.bin" is not a plain"#);
    check_index(&map("t.safetensors"), r#"shard "t.safetensors" is missing from the folder"#);
    check_index(
        r#"{"weight_map":{"b":"s.safetensors"}}"#,
        r#"tensor "b" is missing from shard "s.safetensors", where the index places it"#,
    );
    check_index(
        r#"{"weight_map":{"a":"s.safetensors","a":"t.safetensors"}}"#,
        r#"invalid index: "a" occurs twice"#,
    );
    check_index(r#"{"weight_map":{}}"#, "weight_map is empty");
    check_index(r#"{"weight_map":[]}"#, "invalid index: invalid type");
    check_index("{}", "missing field `weight_map`");
    check_index("", "invalid index: EOF");
}

#[test]
fn folders_and_pickles_are_refused_with_reason() {
    let folder = tempfile::tempdir().unwrap();
    assert!(
        refusal(folder.path())
            .ends_with("the folder has neither model.safetensors nor model.safetensors.index.json")
    );
    fs::write(folder.path().join("pytorch_model.bin"), b"PK").unwrap();
    for path in [
        folder.path().to_path_buf(),
        folder.path().join("pytorch_model.bin"),
        folder.path().join("none.PTH"),
    ] {
        let text = refusal(&path);
        assert!(text.contains("candor reads only GGUF and safetensors"), "{text}");
    }
    let missing = SafeTensorFiles::open(&folder.path().join("none.safetensors")).unwrap_err();
    assert!(matches!(missing, candor::internals::error::Error::Io { .. }), "{missing}");
}

#[test]
fn mutated_files_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    Recipe::load("qwen2").write_hf(folder.path(), Dtype::BF16, 1);
    let base = fs::read(folder.path().join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(base[..8].try_into().unwrap()) as usize;
    let path = folder.path().join("mutated.safetensors");
    let mut random = Random(20_260_102);
    let (mut opened, mut refused) = (0, 0);
    for round in 0..300 {
        let mut bytes = base.clone();
        mutate(&mut bytes, header, &mut random);
        fs::write(&path, &bytes).unwrap();
        let (result, peak) = peak_bytes(|| SafeTensorFiles::open(&path).map(|files| touch(&files)));
        assert!(peak < 64 << 20, "round {round}: held {peak} bytes");
        match result {
            Ok(_) => opened += 1,
            Err(error) => {
                assert!(error.is_invalid_file(), "round {round}: {error}");
                refused += 1;
            }
        }
    }
    assert!(opened > 5 && refused > 100, "{opened} opened, {refused} refused");
}

/// Reads every byte of every tensor of a readable type.
fn touch(files: &SafeTensorFiles) -> u64 {
    let tensors = files.tensor_names().filter_map(|name| files.tensor(name).ok());
    tensors
        .map(|tensor| {
            assert_eq!(tensor.dtype.bytes_for(tensor.elements()), Some(tensor.bytes.len()));
            tensor.bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()
        })
        .sum()
}

/// A tiny model written as `dtype` in `shards` files reads back to the bit.
fn check_round_trip(recipe: &Recipe, dtype: Dtype, shards: usize) {
    let folder = tempfile::tempdir().unwrap();
    recipe.write_hf(folder.path(), dtype, shards);
    let files = SafeTensorFiles::open(folder.path()).unwrap();
    let weights = recipe.weights();
    assert_eq!((files.files().len(), files.tensor_names().len()), (shards, weights.len()));
    for weight in &weights {
        let tensor = files.tensor(&weight.name).unwrap();
        assert_eq!((tensor.dtype, &tensor.shape), (dtype, &weight.shape), "{}", weight.name);
        assert!(tensor.bytes[..] == encode(dtype, &weight.values), "{} differs", weight.name);
    }
    let total: usize = weights.iter().map(|weight| weight.values.len() * dtype.block_bytes()).sum();
    assert!(files.file_len() > total && files.path().starts_with(folder.path()));
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap();
        assert!(json.is_object(), "{name}");
    }
}

#[test]
fn tiny_models_read_back() {
    for name in Recipe::ALL {
        let recipe = Recipe::load(name);
        check_round_trip(&recipe, Dtype::F32, 1);
        check_round_trip(&recipe, Dtype::BF16, 2);
        check_round_trip(&recipe, Dtype::F16, 2);
    }
}
