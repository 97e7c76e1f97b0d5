//! The GGUF reader against hand-made bad files, a thousand mutated ones, and files that must read
//! back as written.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use candor::internals::error::{Error, Result};
use candor::internals::format::dtype::Dtype;
use candor::internals::format::gguf::{Gguf, Metadata};
use half::{bf16, f16};
use sha2::{Digest as _, Sha256};

use crate::support::alloc::peak_bytes;
use crate::support::gguf_writer::{Tensor, Value, Writer, encode, string};
use crate::support::tiny::{Kind, Recipe};

/// What an error path may hold besides the bytes of the file itself.
const SLACK_BYTES: usize = 64 << 10;
/// What any file may make the reader hold.
const LIMIT_BYTES: usize = 64 << 20;

/// A small valid file: one entry of each kind and two tensors.
fn small() -> Writer {
    let ramp: Vec<f32> = (0..64).map(|i| i as f32 / 64.0).collect();
    let mut writer = Writer::default()
        .with("general.architecture", "llama")
        .with("llama.block_count", 2u32)
        .with("llama.rope.freq_base", 10000.0f32)
        .with("tokenizer.ggml.tokens", Value::array(["a", "b", "é"]))
        .with("tokenizer.ggml.scores", Value::array([0.5f32, -1.0, -2.5]))
        .with("tokenizer.ggml.add_bos_token", true);
    writer.tensors.push(Tensor::new("first", &[1, 2], Dtype::F32, &[1.5, -2.0]));
    writer.tensors.push(Tensor::new("second", &[2, 32], Dtype::Q8_0, &ramp));
    writer
}

/// The error that `bytes` must give: an invalid file, exit code 4, text that contains `want`,
/// nothing big allocated.
fn check(what: &str, bytes: Vec<u8>, want: &str) {
    let len = bytes.len();
    let (result, peak) = peak_bytes(|| Gguf::from_bytes("bad.gguf", bytes));
    let error = result.map(|_| ()).expect_err(what);
    let text = error.to_string();
    assert!(error.is_invalid_file() && error.exit_code() == 4, "{what}: {error:?}");
    assert!(
        text.starts_with("bad.gguf: invalid GGUF: ") && text.contains(want),
        "{what}: got `{text}`, want `{want}`"
    );
    assert!(text.len() < 600 && !text.contains(char::is_control), "{what}: {text:?}");
    assert!(peak <= len + SLACK_BYTES, "{what}: held {peak} bytes for a file of {len}");
}

/// Checks a table of (what it is, file, part of the error).
fn check_all(cases: Vec<(&str, Writer, &str)>) {
    for (what, writer, want) in cases {
        check(what, writer.bytes(), want);
    }
}

#[test]
fn bad_headers_are_refused() {
    let cut = |len: usize| small().bytes()[..len].to_vec();
    check("empty", Vec::new(), "the file is 0 bytes long, its header alone needs 24");
    check("23 bytes", cut(23), "the file is 23 bytes long");
    check("3 bytes", b"GGU".to_vec(), "the file is 3 bytes long");
    check("web page", b"<!DOCTYPE html><html></html>".to_vec(), "magic is \"<!DO\", want \"GGUF\"");
    check_all(vec![
        ("magic", Writer { magic: *b"GGML", ..small() }, "magic is \"GGML\""),
        (
            "control characters in the magic",
            Writer { magic: *b"\x1b[2J", ..small() },
            "magic is \"\\u{1b}[2J\"",
        ),
        ("version 0", Writer { version: 0, ..small() }, "version is 0, candor reads 2 and 3"),
        (
            "version 1",
            Writer { version: 1, ..small() },
            "version is 1, candor reads 2 and 3: convert the model again",
        ),
        ("future", Writer { version: 4, ..small() }, "version is 4"),
        (
            "big-endian",
            Writer { version: 3u32.swap_bytes(), ..small() },
            "big-endian file of version 3",
        ),
        (
            "endless tensors",
            Writer { n_tensors: Some(u64::MAX), ..small() },
            "tensor count is 18446744073709551615, the limit is 65536",
        ),
        (
            "endless entries",
            Writer { n_kv: Some(u64::MAX), ..small() },
            "metadata count is 18446744073709551615, the limit is 65536",
        ),
        (
            "more tensors than bytes",
            Writer { n_tensors: Some(60_000), ..small() },
            "tensor count is 60000, at 33 bytes or more each, but",
        ),
        (
            "more entries than bytes",
            Writer { n_kv: Some(60_000), ..small() },
            "metadata count is 60000, at 14 bytes or more each, but",
        ),
        (
            "one entry too many",
            Writer { n_kv: Some(7), ..small() },
            "tensor 0 of 2: name is 281474976710656 bytes long",
        ),
        (
            "one tensor too many",
            Writer { n_tensors: Some(3), ..small() },
            "tensor 2 of 3: name is 0 bytes long",
        ),
        (
            "part of a split model",
            small().with("split.count", 3u16),
            "split.count is 3: this is one part of a split model",
        ),
    ]);
}

#[test]
fn bad_metadata_is_refused() {
    let key = |key: &[u8]| {
        let mut writer = small();
        writer.metadata.push((key.to_vec(), true.into()));
        writer
    };
    let value = |value: Value| small().with("k", value);
    let long = u64::MAX.to_le_bytes();
    check_all(vec![
        ("empty key", key(b""), "metadata entry 6 of 7: key is 0 bytes long, want 1 to 65535"),
        ("key too long", key(&[b'k'; 65_536]), "key is 65536 bytes long, want 1 to 65535"),
        ("key is no text", key(b"ke\xff"), "metadata entry 6 of 7: key is not UTF-8 at byte 2"),
        (
            "duplicate key",
            small().with("llama.block_count", 3u32),
            "metadata key \"llama.block_count\" occurs twice",
        ),
        (
            "long duplicate key",
            key(&[b'k'; 5000]).with(&"k".repeat(5000), 1u8),
            "kkk\"… occurs twice",
        ),
        (
            "value type 13",
            value(Value::raw(13, [0; 8])),
            "metadata key \"k\": value type is 13, the largest is 12",
        ),
        ("bool 2", value(Value::raw(7, [2])), "metadata key \"k\": bool is 2, want 0 or 1"),
        (
            "string past the end",
            value(Value::raw(8, 9999u64.to_le_bytes())),
            "metadata key \"k\": string needs 9999 bytes",
        ),
        ("endless string", value(Value::raw(8, long)), "string needs 18446744073709551615 bytes"),
        ("element type 99", value(Value::raw_array(99, 1, [0; 8])), "value type is 99"),
        (
            "nested array",
            value(Value::raw_array(9, 1, [0; 12])),
            "array of arrays: nesting is not allowed",
        ),
        (
            "endless array",
            value(Value::raw_array(0, u64::MAX, [])),
            "array length is 18446744073709551615",
        ),
        (
            "array whose size overflows",
            value(Value::raw_array(10, 1 << 61, [])),
            "array length is 2305843009213693952, at 8 bytes",
        ),
        (
            "array past the end",
            value(Value::raw_array(4, 5000, [])),
            "array length is 5000, at 4 bytes or more each, but",
        ),
        (
            "endless array of strings",
            value(Value::raw_array(8, u64::MAX, [])),
            "array length is 18446744073709551615, at 8 bytes",
        ),
        (
            "endless string in an array",
            value(Value::raw_array(8, 2, [string(b"a"), long.to_vec()].concat())),
            "element 1 of 2: string needs",
        ),
    ]);
    let header = small().header();
    let tensor_list = header.len() - 2 * (8 + 4 + 16 + 4 + 8) - "firstsecond".len();
    let ends: Vec<usize> = (24..tensor_list).collect();
    for end in ends {
        check("cut metadata", header[..end].to_vec(), "invalid GGUF: ");
    }
}

#[test]
fn bad_alignments_are_refused() {
    let aligned = |value: Value| small().with("general.alignment", value);
    check_all(vec![
        ("0", aligned(0u32.into()), "general.alignment is 0, want a power of two from 8"),
        ("33", aligned(33u32.into()), "general.alignment is 33"),
        ("4", aligned(4u32.into()), "general.alignment is 4"),
        ("all bits", aligned(u32::MAX.into()), "general.alignment is 4294967295"),
        ("u64", aligned(32u64.into()), "general.alignment is of type u64, want u32"),
        ("text", aligned("32".into()), "general.alignment is of type string"),
        (
            "data starts past the end",
            aligned((1u32 << 31).into()),
            "not a multiple of the alignment 2147483648",
        ),
    ]);
    check(
        "57 bytes",
        Writer::default().with("general.alignment", 0u32).bytes(),
        "general.alignment is 0",
    );
}

#[test]
fn bad_tensors_are_refused() {
    let dims = |dims: &[u64]| small().last(|tensor| tensor.dims = dims.to_vec());
    let name = |name: &[u8]| small().last(|tensor| tensor.name = name.to_vec());
    let ty = |ty: u32| small().last(|tensor| tensor.ty = ty);
    let offset = |offset: u64| small().last(|tensor| tensor.offset = Some(offset));
    check_all(vec![
        ("duplicate name", name(b"first"), "tensor \"first\" occurs twice"),
        ("empty name", name(b""), "tensor 1 of 2: name is 0 bytes long, want 1 to 64"),
        ("name too long", name(&[b'n'; 65]), "name is 65 bytes long, want 1 to 64"),
        ("name is no text", name(b"\xc3("), "name is not UTF-8 at byte 0"),
        ("no dimension", dims(&[]), "tensor \"second\": number of dimensions is 0, want 1 to 4"),
        ("five dimensions", dims(&[32, 1, 1, 1, 2]), "number of dimensions is 5, want 1 to 4"),
        ("zero dimension", dims(&[32, 0]), "tensor \"second\": a dimension is 0, want 1 or more"),
        (
            "product overflows",
            dims(&[1 << 40, 1 << 40]),
            "dimensions are [1099511627776, 1099511627776]: their size as Q8_0 overflows",
        ),
        ("product overflows just so", dims(&[(1 << 63) - 64, 2]), "their size as Q8_0 overflows"),
        (
            "bytes overflow, elements do not",
            dims(&[1 << 63]),
            "dimensions are [9223372036854775808]: their size as Q8_0 overflows",
        ),
        (
            "part of a block",
            dims(&[33, 2]),
            "dimensions are [33, 2]: the first is not a multiple of 32, the block length of Q8_0",
        ),
        (
            "larger than the file",
            dims(&[1 << 20, 1 << 10]),
            "its 1140850688 bytes at data offset 32 end past the file's",
        ),
        (
            "type 99",
            ty(99),
            "tensor \"second\": type is 99 (unknown); candor reads F32 (0), F16 (1), Q4_0 (2), Q4_1 (3), Q5_0 (6)",
        ),
        ("type 16", ty(16), "type is 16 (IQ2_XXS)"),
        ("removed type", ty(4), "type is 4 (unknown)"),
        ("unaligned offset", offset(40), "offset is 40, not a multiple of the alignment 32"),
        (
            "offset past the end",
            offset(1 << 20),
            "tensor \"second\": offset is 1048576, want 32 (a hole after \"first\")",
        ),
        (
            "endless offset",
            offset(u64::MAX - 31),
            "tensor \"second\": offset 18446744073709551584 plus 68 bytes overflows",
        ),
        ("overlap", offset(0), "offset is 0, want 32 (overlap after"),
        ("hole", offset(64), "offset is 64, want 32 (a hole after \"first\")"),
    ]);
    let mut first = small();
    first.tensors[0].offset = Some(96);
    check(
        "hole at the start",
        first.bytes(),
        "tensor \"second\": offset is 32, want 0 (a hole after the start of the data)",
    );
    let whole = small().bytes();
    check(
        "cut data",
        whole[..whole.len() - 1].to_vec(),
        "tensor \"second\": its 68 bytes at data offset 32 end past the file's",
    );
    check("no data", small().header(), "tensor \"first\": its 8 bytes at data offset 0 end past");
    let header = small().header();
    for end in header.len() - 90..header.len() {
        check("cut tensor list", header[..end].to_vec(), "invalid GGUF: ");
    }
}

#[test]
fn good_files_read_back() {
    for version in [2, 3] {
        let writer = Writer { version, ..small() };
        let gguf = Gguf::from_bytes("good", [writer.bytes(), vec![0; 100]].concat()).unwrap();
        assert_eq!((gguf.version(), gguf.file_len()), (version, writer.bytes().len() + 100));
        assert_eq!(gguf.tensor_names().collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(gguf.metadata().keys().next(), Some("general.architecture"));
        let first = gguf.tensor("first").unwrap();
        assert_eq!(
            (first.dtype, &first.shape[..], &first.bytes[..]),
            (Dtype::F32, &[1, 2][..], &writer.tensors[0].bytes[..])
        );
        assert_eq!(gguf.tensor("second").unwrap().shape, [2, 32]);
    }
    let wide = Writer { alignment: 64, ..small() }.with("general.alignment", 64u32);
    let gguf = Gguf::from_bytes("aligned", wide.bytes()).unwrap();
    assert_eq!(gguf.tensor("second").unwrap().bytes[..], wide.tensors[1].bytes[..]);
    let mut swapped = small();
    swapped.tensors[0].offset = Some(96);
    swapped.tensors[1].offset = Some(0);
    let gguf =
        Gguf::from_bytes("data in another order", [swapped.bytes(), vec![0; 64]].concat()).unwrap();
    assert_eq!(gguf.tensor("second").unwrap().bytes.len(), 68);
    assert!(Gguf::from_bytes("nothing", Writer::default().bytes()).unwrap().metadata().is_empty());
}

#[test]
fn missing_things_are_named() {
    let gguf = Gguf::from_bytes("m.gguf", small().bytes()).unwrap();
    let error = gguf.tensor("blk.0.attn_q.weight").unwrap_err();
    assert_eq!(
        error.to_string(),
        "m.gguf: tensor \"blk.0.attn_q.weight\" is missing; the file has 2 others"
    );
    let error = gguf.metadata().require_u32("llama.context_length").unwrap_err();
    assert_eq!(error.to_string(), "m.gguf: metadata key \"llama.context_length\" is missing");
    assert_eq!(gguf.metadata().u32("llama.context_length").unwrap(), None);
    let error = Gguf::open(Path::new("/nowhere/model.gguf")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let error = Gguf::open(folder.path()).unwrap_err();
    assert!(error.to_string().ends_with("this is a folder, want a model file"), "{error}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = Gguf::open(empty.path()).unwrap_err();
    assert!(error.to_string().contains("the file is 0 bytes long"), "{error}");
}

/// Every typed accessor, by name, as one result.
type Accessor = (&'static str, fn(&Metadata, &str) -> Result<()>);
const ACCESSORS: [Accessor; 10] = [
    ("u32", |m, k| m.u32(k).map(drop)),
    ("u64", |m, k| m.u64(k).map(drop)),
    ("f32", |m, k| m.f32(k).map(drop)),
    ("bool", |m, k| m.bool(k).map(drop)),
    ("str", |m, k| m.str(k).map(drop)),
    ("strings", |m, k| m.strings(k).map(drop)),
    ("f32s", |m, k| m.f32s(k).map(drop)),
    ("u32s", |m, k| m.u32s(k).map(drop)),
    ("i32s", |m, k| m.i32s(k).map(drop)),
    ("bools", |m, k| m.bools(k).map(drop)),
];

/// Which accessors take a stored value, and what one of the others says.
fn check_types(value: impl Into<Value>, accepted: &str, want: &str) {
    let value = value.into();
    let gguf = Gguf::from_bytes("t", Writer::default().with("key", value.clone()).bytes()).unwrap();
    let mut taken = Vec::new();
    let mut said = Vec::new();
    for (name, access) in ACCESSORS {
        match access(gguf.metadata(), "key") {
            Ok(()) => taken.push(name),
            Err(error) => {
                assert!(
                    error.is_invalid_file()
                        && error.to_string().starts_with("t: metadata key \"key\" "),
                    "{error}"
                );
                said.push(error.to_string());
            }
        }
    }
    assert_eq!(taken.join(" "), accepted, "{value:?}");
    assert!(said.iter().any(|text| text.contains(want)), "{value:?}: {said:?} lack `{want}`");
}

#[test]
fn accessors_take_their_types_only() {
    check_types(7u8, "u32 u64", "is 7 (u8), want a bool");
    check_types(7i64, "u32 u64", "is 7 (i64), want a finite f32");
    check_types(-1i8, "", "is -1 (i8), want an integer from 0 to 4294967295");
    check_types(
        5_000_000_000u64,
        "u64",
        "is 5000000000 (u64), want an integer from 0 to 4294967295",
    );
    check_types(1.5f32, "f32", "is 1.5 (f32), want a UTF-8 string");
    check_types(1.5f64, "f32", "is 1.5 (f64), want a bool");
    check_types(f32::NAN, "", "is NaN (f32), want a finite f32");
    check_types(1e300f64, "", "want a finite f32");
    check_types(true, "bool", "is true (bool), want an integer");
    check_types("text", "str", "is the string \"text\", want an integer");
    check_types("\x1b]0;x", "str", "is the string \"\\u{1b}]0;x\", want");
    check_types(
        Value::raw(8, string(b"ab\xff")),
        "",
        "is a string that is not UTF-8 at its byte 2, want a UTF-8 string",
    );
    check_types(Value::array(["a", "b"]), "strings", "is an array of 2 string, want a bool");
    check_types(
        Value::raw_array(8, 2, [string(b"a"), string(b"\xe2\x82")].concat()),
        "",
        "has at element 1 of 2 a string that is not UTF-8",
    );
    check_types(
        Value::array([1u8, 2]),
        "u32s i32s",
        "has at element 0 of 2 1 (u8), want an f32 that is not NaN",
    );
    check_types(
        Value::array([-1i32]),
        "i32s",
        "has at element 0 of 1 -1 (i32), want an integer from 0",
    );
    check_types(
        Value::array([1.5f32, f32::NEG_INFINITY]),
        "f32s",
        "has at element 0 of 2 1.5 (f32), want a UTF-8 string",
    );
    check_types(
        Value::array([1.5f32, f32::NAN]),
        "",
        "has at element 1 of 2 NaN (f32), want an f32 that is not NaN",
    );
    check_types(
        Value::array([true, false]),
        "bools",
        "has at element 0 of 2 true (bool), want an integer",
    );
    check_types(Value::raw_array(7, 2, [1, 3]), "", "has an element 1 that is not of type bool");
}

#[test]
fn values_are_shown_in_one_line() {
    let long = "x".repeat(5000);
    let writer = small().with("long", &long).with("esc", "a\n\x1b[31m");
    let gguf = Gguf::from_bytes("d", writer.bytes()).unwrap();
    let show = |key: &str| gguf.metadata().display(key).unwrap();
    assert_eq!(show("llama.rope.freq_base"), "10000");
    assert_eq!(show("tokenizer.ggml.tokens"), "3 × string [\"a\", \"b\", \"é\"]");
    assert_eq!(show("esc"), "\"a\\n\\u{1b}[31m\"");
    assert!(show("long").chars().count() < 100);
    assert_eq!(gguf.metadata().display("none"), None);
}

#[test]
fn a_huge_array_costs_nothing() {
    let len = 200_000_000;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&Writer::default().with("huge", Value::raw_array(0, len, [])).bytes()).unwrap();
    file.as_file().set_len(file.as_file().metadata().unwrap().len() + len).unwrap(); // sparse: takes no disk
    let (error, peak) = peak_bytes(|| {
        let gguf = Gguf::open(file.path()).unwrap();
        assert_eq!(gguf.metadata().display("huge").unwrap(), "200000000 × u8 [0, 0, 0, …]");
        gguf.metadata().u32s("huge").unwrap_err()
    });
    assert!(
        error
            .to_string()
            .ends_with("metadata key \"huge\" has 200000000 elements, the limit is 4194304"),
        "{error}"
    );
    assert!(peak < SLACK_BYTES, "{peak}");
}

#[test]
fn the_index_is_smaller_than_the_file() {
    let mut writer = Writer::default();
    for index in 0..65_536u32 {
        writer.set(&format!("{index:x}"), true);
    }
    let one = Tensor {
        name: Vec::new(),
        dims: vec![1],
        ty: Dtype::F16.ggml(),
        bytes: Vec::new(),
        offset: None,
    };
    for index in 0..65_536u64 {
        writer.tensors.push(Tensor {
            name: format!("{index:x}").into(),
            offset: Some(index * 32),
            ..one.clone()
        });
    }
    let bytes = [writer.header(), vec![0; 65_537 * 32]].concat();
    let header = writer.header().len();
    let (gguf, peak) = peak_bytes(|| Gguf::from_bytes("full", bytes).unwrap());
    assert_eq!((gguf.tensor_names().len(), gguf.metadata().len()), (65_536, 65_536));
    assert_eq!(gguf.tensor("ffff").unwrap().bytes.len(), 2);
    assert_eq!(gguf.metadata().bool("7fff").unwrap(), Some(true));
    assert!(peak < header + SLACK_BYTES, "{peak} bytes for a header of {header}");
}

/// Reads all that a file has: every key through every accessor, every byte of every tensor.
fn touch(gguf: &Gguf) -> u64 {
    let metadata = gguf.metadata();
    for key in metadata.keys() {
        assert!(metadata.display(key).is_some());
        for (_, access) in ACCESSORS {
            let _ = access(metadata, key);
        }
    }
    let sum = |name: &str| {
        let tensor = gguf.tensor(name).unwrap();
        assert_eq!(tensor.dtype.bytes_for(tensor.elements()), Some(tensor.bytes.len()));
        let _ = tensor.defect();
        tensor.bytes.iter().map(|&byte| u64::from(byte)).sum::<u64>()
    };
    gguf.tensor_names().map(sum).sum()
}

/// A splitmix64 sequence.
pub struct Random(pub u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % limit as u64) as usize
    }
}

/// One to four random changes, most of them in the first `header` bytes.
pub fn mutate(bytes: &mut Vec<u8>, header: usize, random: &mut Random) {
    const EXTREMES: [u64; 10] = [
        0,
        1,
        64,
        65_537,
        u32::MAX as u64,
        1 << 40,
        i64::MAX as u64,
        i64::MAX as u64 - 31,
        u64::MAX - 31,
        u64::MAX,
    ];
    for _ in 0..=random.below(4) {
        let range = if random.below(8) == 0 { bytes.len() } else { header.min(bytes.len()) };
        if range < 16 {
            return;
        }
        let at = random.below(range - 8);
        match random.below(8) {
            0..=2 => bytes[at] ^= 1 << random.below(8),
            3 | 4 => bytes[at..at + 8]
                .copy_from_slice(&EXTREMES[random.below(EXTREMES.len())].to_le_bytes()),
            5 => bytes[at..at + 4].copy_from_slice(&(random.below(14) as u32).to_le_bytes()),
            6 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, vec![random.below(256) as u8; 1 + random.below(40)])),
        }
    }
}

#[test]
fn a_thousand_mutated_files_do_no_harm() {
    let tiny = Recipe::load("qwen2").writer(Dtype::Q4_0);
    let bases = [small(), tiny].map(|writer| (writer.header().len(), writer.bytes()));
    let mut random = Random(20_260_101);
    let (mut opened, mut refused) = (0, 0);
    for round in 0..1000 {
        let (header, base) = &bases[round % 2];
        let mut bytes = base.clone();
        mutate(&mut bytes, *header, &mut random);
        let start = Instant::now();
        let (result, peak) =
            peak_bytes(|| Gguf::from_bytes("mutated", bytes).map(|gguf| touch(&gguf)));
        match result {
            Ok(_) => opened += 1,
            Err(error) => {
                assert!(error.is_invalid_file(), "round {round}: {error}");
                refused += 1;
            }
        }
        assert!(peak < LIMIT_BYTES, "round {round}: held {peak} bytes");
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "round {round}: took {:?}",
            start.elapsed()
        );
    }
    // Both ends of the reader must have been exercised.
    assert!(opened > 50 && refused > 300, "{opened} opened, {refused} refused");
}

/// The values of a stored float or 32-block tensor, by ggml's definition of the blocks.
fn decode(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let half = |block: &[u8]| f16::from_le_bytes([block[0], block[1]]).to_f32();
    let of = |block: &[u8]| -> Vec<f32> {
        match dtype {
            Dtype::F32 => vec![f32::from_le_bytes(block.try_into().unwrap())],
            Dtype::F16 => vec![half(block)],
            Dtype::BF16 => vec![bf16::from_le_bytes([block[0], block[1]]).to_f32()],
            Dtype::Q8_0 => block[2..].iter().map(|&q| f32::from(q as i8) * half(block)).collect(),
            Dtype::Q4_0 => {
                let quants =
                    block[2..].iter().map(|q| q & 15).chain(block[2..].iter().map(|q| q >> 4));
                quants.map(|q| (f32::from(q) - 8.0) * half(block)).collect()
            }
            other => panic!("{other}"),
        }
    };
    bytes.chunks_exact(dtype.block_bytes()).flat_map(of).collect()
}

/// Every tensor of a tiny model, stored as `dtype`, reads back within `step` of the largest
/// magnitude in its block of 32.
fn check_round_trip(recipe: &Recipe, dtype: Dtype, step: f32) {
    let gguf = Gguf::from_bytes("tiny", recipe.gguf(dtype)).unwrap();
    let weights = recipe.weights();
    let rope = usize::from(gguf.contains("rope_freqs.weight"));
    assert_eq!(gguf.tensor_names().len(), weights.len() + rope);
    for weight in weights {
        let tensor = gguf.tensor(&weight.gguf_name).unwrap();
        let stored = if weight.kind == Kind::Linear { dtype } else { Dtype::F32 };
        assert_eq!(
            (tensor.dtype, &tensor.shape, tensor.defect()),
            (stored, &weight.shape, None),
            "{}",
            weight.name
        );
        let want = recipe.gguf_values(&weight);
        for (got, want) in decode(stored, &tensor.bytes).chunks(32).zip(want.chunks(32)) {
            let largest = want.iter().fold(0.0f32, |max, value| max.max(value.abs()));
            let off = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            let allowed = if stored == Dtype::F32 { 0.0 } else { largest * step };
            assert!(off <= allowed, "{dtype} {}: off by {off}, allowed {allowed}", weight.name);
        }
    }
}

#[test]
fn tiny_models_read_back_in_every_type() {
    for name in Recipe::ALL {
        let recipe = Recipe::load(name);
        check_round_trip(&recipe, Dtype::F32, 0.0);
        check_round_trip(&recipe, Dtype::F16, 0.5 / 1024.0);
        check_round_trip(&recipe, Dtype::BF16, 0.5 / 128.0);
        check_round_trip(&recipe, Dtype::Q8_0, 0.51 / 127.0 + 0.5 / 1024.0);
        check_round_trip(&recipe, Dtype::Q4_0, 1.01 / 8.0); // the end opposite the extreme is cut by one whole step
    }
}

#[test]
fn tiny_models_carry_a_tokenizer() {
    let gguf = Gguf::from_bytes("tiny", Recipe::load("llama").gguf(Dtype::F32)).unwrap();
    let tokens = gguf.metadata().require_strings("tokenizer.ggml.tokens").unwrap();
    assert_eq!(tokens.len(), 264);
    assert_eq!([tokens[0], tokens[32], tokens[65], tokens[255]], ["Ā", "Ġ", "A", "ÿ"]);
    assert_eq!(
        tokens[256..262],
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "Ġt", "he", "Ġthe"]
    );
    let types = gguf.metadata().i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!((types.len(), types[255], types[258], types[263]), (264, 1, 3, 5));
    let distinct: std::collections::BTreeSet<_> = tokens.iter().collect();
    assert_eq!(distinct.len(), 264);
}

/// The digest that `tests/golden/tiny_logits.py` wrote of the weights it built: over the tensors in
/// ascending order of name, the name, then the values as little-endian f32.
#[test]
fn tiny_weights_are_those_of_the_goldens() {
    for name in Recipe::ALL {
        let path = format!("{}/tests/golden/logits/tiny-{name}.json", env!("CARGO_MANIFEST_DIR"));
        let golden: serde_json::Value =
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let mut weights = Recipe::load(name).weights();
        weights.sort_by(|a, b| a.name.cmp(&b.name));
        let mut digest = Sha256::new();
        for weight in &weights {
            digest.update(&weight.name);
            digest.update(encode(Dtype::F32, &weight.values));
        }
        let got: String =
            digest.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        assert_eq!(golden["weights_sha256"], got, "{name}");
    }
}

/// A weight of the recipe as the GGUF file must hold it, by one value: (tensor, row, column) and
/// the same value's place in the Hugging Face tensor.
fn check_tiny(recipe: &Recipe, hf: &str, hf_at: [usize; 2], gguf_at: [usize; 2], plus: f32) {
    let weights = recipe.weights();
    let weight = weights.iter().find(|weight| weight.name == hf).unwrap();
    let gguf = Gguf::from_bytes("tiny", recipe.gguf(Dtype::F32)).unwrap();
    let stored = gguf.tensor(&weight.gguf_name).unwrap();
    assert_eq!(stored.shape, weight.shape);
    let width = if weight.shape.len() == 1 { 0 } else { weight.shape[1] };
    let at = (gguf_at[0] * width + gguf_at[1]) * 4;
    let got = f32::from_le_bytes(stored.bytes[at..at + 4].try_into().unwrap());
    let want = weight.values[hf_at[0] * width + hf_at[1]] + plus;
    assert_eq!(got.to_bits(), want.to_bits(), "{hf}: got {got}, want {want}");
}

#[test]
fn tiny_models_follow_the_converter() {
    let llama = Recipe::load("llama");
    check_tiny(&llama, "model.layers.1.self_attn.q_proj.weight", [16, 3], [16, 3], 0.0);
    check_tiny(&llama, "model.layers.1.self_attn.q_proj.weight", [24, 3], [17, 3], 0.0); // second half's first row is the odd neighbor
    check_tiny(&llama, "model.layers.0.self_attn.k_proj.weight", [17, 63], [18, 63], 0.0);
    check_tiny(&llama, "model.layers.0.self_attn.v_proj.weight", [17, 63], [17, 63], 0.0);
    check_tiny(
        &Recipe::load("qwen3"),
        "model.layers.0.self_attn.q_proj.weight",
        [17, 63],
        [17, 63],
        0.0,
    );
    check_tiny(
        &Recipe::load("gemma3"),
        "model.layers.6.self_attn.k_norm.weight",
        [0, 31],
        [0, 31],
        1.0,
    );
    check_tiny(
        &Recipe::load("gemma3"),
        "model.layers.6.mlp.up_proj.weight",
        [95, 31],
        [95, 31],
        0.0,
    );
    check_tiny(
        &Recipe::load("qwen2"),
        "model.layers.1.self_attn.k_proj.bias",
        [0, 31],
        [0, 31],
        0.0,
    );
}
