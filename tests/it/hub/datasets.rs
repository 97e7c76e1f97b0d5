//! Files of data sets: the same cache, digests and resuming as for models.

use std::fs;
use std::path::PathBuf;

use candor::hub::{self, DatasetFile, HubOptions};
use candor::internals::error::Result;

use super::bench::{Bench, RecordedProgress, check_error, names};
use super::server::{COMMIT, Fault, NEXT_COMMIT, noise, sha256};

const FILE: &str = "data/test.parquet";

fn bench() -> (Bench, Vec<u8>) {
    let content = noise(300_000, 1);
    (Bench::new(&[(FILE, content.clone()), ("small.jsonl", b"{}\n".to_vec())]), content)
}

fn fetch(reference: &str, options: &HubOptions) -> (Result<PathBuf>, RecordedProgress) {
    let mut heard = RecordedProgress::default();
    let reference: DatasetFile = reference.parse().unwrap();
    (hub::resolve_dataset(&reference, options, &mut heard), heard)
}

fn reference() -> String {
    format!("datasets/user/repo/{FILE}")
}

#[test]
fn a_file_lands_in_the_hubs_layout_and_is_not_fetched_twice() {
    let (bench, content) = bench();
    let (path, heard) = fetch(&reference(), &bench.options);
    let path = path.unwrap();
    assert!(fs::read(&path).unwrap() == content && heard.notices.is_empty());
    let repository = bench.folder.path().join("hub/datasets--user--repo");
    assert_eq!(path, repository.join("snapshots").join(COMMIT).join(FILE));
    assert_eq!(names(&repository.join("blobs")), [sha256(&content)]);
    assert_eq!(fs::read_to_string(repository.join("refs/main")).unwrap(), COMMIT);
    assert!(
        bench
            .server
            .log()
            .iter()
            .all(|request| request.cdn || request.path.starts_with("/datasets/user/repo/resolve/"))
    );
    // From the cache without a request, by branch or commit, also offline; a model of that name is
    // another repository.
    let requests = bench.server.log().len();
    let offline = HubOptions { offline: true, ..bench.options.clone() };
    for reference in
        [reference(), format!("{}@{COMMIT}", reference()), format!("hf://{}", reference())]
    {
        assert_eq!(fetch(&reference, &offline).0.unwrap(), path);
    }
    assert_eq!(bench.server.log().len(), requests);
    assert!(hub::list(&bench.options).is_empty());
    // A small file has a git digest.
    assert_eq!(
        fs::read(fetch("datasets/user/repo/small.jsonl", &bench.options).0.unwrap()).unwrap(),
        b"{}\n"
    );
}

#[test]
fn a_branch_that_moved_is_seen_when_that_is_asked() {
    let (bench, content) = bench();
    let first = fetch(&reference(), &bench.options).0.unwrap();
    let newer = noise(1000, 2);
    bench.server.change(|site| {
        site.commits.insert(NEXT_COMMIT.to_owned(), [(FILE.to_owned(), newer.clone())].into());
        site.head = NEXT_COMMIT.to_owned();
    });
    assert_eq!(fetch(&reference(), &bench.options).0.unwrap(), first);
    let moved = fetch(&reference(), &bench.refreshed()).0.unwrap();
    assert!(fs::read(&moved).unwrap() == newer && fs::read(&first).unwrap() == content);
    // A commit never moves.
    let requests = bench.server.log().len();
    assert_eq!(fetch(&format!("{}@{COMMIT}", reference()), &bench.refreshed()).0.unwrap(), first);
    assert_eq!(bench.server.log().len(), requests);
}

#[test]
fn faults_are_survived_or_named() {
    let (bench, content) = bench();
    bench.server.faults(&[Fault::CutAfter(150_000), Fault::Flip(7)]);
    let (path, heard) = fetch(&reference(), &bench.options);
    assert!(fs::read(path.unwrap()).unwrap() == content);
    assert_eq!(bench.server.transfers()[1].headers["range"], "bytes=150000-");
    assert!(heard.notices[0].contains("arrived damaged (expected sha256 "), "{:?}", heard.notices);
    let (missing, _) = fetch("datasets/user/repo/other.csv", &bench.options);
    check_error(&missing.unwrap_err(), 5, "datasets/user/repo at http://127.0.0.1");
    let offline = HubOptions { offline: true, ..bench.options.clone() };
    check_error(
        &fetch("datasets/user/repo/other.csv", &offline).0.unwrap_err(),
        5,
        "not cached and offline mode forbids fetching it",
    );
    // A file damaged on the disk is fetched again; offline it is an error.
    let path = fetch(&reference(), &bench.options).0.unwrap();
    let mut spoiled = content.clone();
    spoiled[5] ^= 1;
    fs::write(fs::canonicalize(&path).unwrap(), &spoiled[..299_999]).unwrap();
    check_error(
        &fetch(&reference(), &offline).0.unwrap_err(),
        4,
        "damaged: it does not have sha256 ",
    );
    assert!(fs::read(fetch(&reference(), &bench.options).0.unwrap()).unwrap() == content);
}
