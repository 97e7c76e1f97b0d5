//! What is held in memory: little beyond the model file itself.

use candor::internals::format::gguf::Gguf;
use candor::internals::tokenizer::Tokenizer;

use crate::support::alloc::peak_bytes;
use crate::support::gguf_writer::{Value, Writer};

/// A tokenizer of all words of up to three letters takes no more than: for its texts twice their
/// bytes (their string grows by doubling) or 8 a token, where it begins; for each token what the
/// lists of its making hold, which are where its text ends 4, its kind 1, its places by text 16,
/// its merge 16, where the merges of its neighbors begin 4, a place in the list of merges' texts
/// 16; 4 kB beside them.
#[test]
fn a_tokenizer_takes_little_more_than_its_texts() {
    let letters: Vec<String> = ('a'..='z').map(String::from).collect();
    let mut tokens = letters.clone();
    let mut merges = Vec::new();
    let mut shorter = letters.clone();
    for _ in 0..2 {
        let longer = shorter.iter().flat_map(|left| letters.iter().map(move |right| (left, right)));
        merges.extend(longer.clone().map(|(left, right)| format!("{left} {right}")));
        shorter = longer.map(|(left, right)| format!("{left}{right}")).collect();
        tokens.extend(shorter.iter().cloned());
    }
    let file = Writer::default()
        .with("tokenizer.ggml.model", "gpt2")
        .with("tokenizer.ggml.pre", "gpt-2")
        .with("tokenizer.ggml.tokens", Value::array(&tokens))
        .with("tokenizer.ggml.merges", Value::array(&merges));
    let gguf = Gguf::from_bytes("words", file.bytes()).unwrap();
    let (tokenizer, peak) = peak_bytes(|| Tokenizer::from_gguf(gguf.metadata()).unwrap());
    let texts: usize = tokens.iter().map(String::len).sum();
    let most = (2 * texts).max(8 * tokens.len()) + 57 * tokens.len() + 4096;
    assert!(peak <= most, "{peak} bytes for {} tokens of {texts} bytes", tokens.len());
    let id = |text: &str| tokenizer.id(text).unwrap();
    assert_eq!(tokenizer.encode("abc").unwrap(), [id("abc")]);
    assert_eq!(tokenizer.encode("cab").unwrap(), [id("c"), id("ab")]);
}

/// From the first byte that is read to the answer.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_takes_at_most_1_3_times_the_file() {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    for file in crate::support::models()
        .iter()
        .flat_map(|folder| folder.read_dir().unwrap())
        .map(|file| file.unwrap().path())
    {
        let Some(size) = file
            .extension()
            .filter(|extension| *extension == "gguf")
            .and_then(|_| file.metadata().ok())
        else {
            continue;
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_candor"))
            .args([
                "ask",
                "--offline",
                "--raw",
                "--max-tokens=64",
                "The capital of France is",
                "--model",
            ])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let status = format!("/proc/{}/status", child.id());
        let mut peak = 0;
        let ended = loop {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let kilobytes = text.lines().find_map(|line| {
                line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok()
            });
            peak = peak.max(kilobytes.unwrap_or(0) << 10_u64);
            if let Some(ended) = child.try_wait().unwrap() {
                break ended;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let name = file.display();
        assert!(ended.success(), "{name}: {ended}");
        println!("{name}: {peak} bytes for a file of {}", size.len());
        assert!(peak > size.len() / 2, "{name}: {peak} bytes cannot hold the weights");
        assert!(peak * 10 <= size.len() * 13, "{name}: {peak} bytes for a file of {}", size.len());
    }
}
